"""Describe the machine of a measurement, and what ran there."""

from __future__ import annotations

from typing import Any

import dynq

__all__ = ["cpu_brand", "cpu_facts", "describe"]


def cpu_facts() -> dict[str, Any]:
    """Return what the CPU reports about itself, as py-cpuinfo calls it. It takes a second, and may be nothing."""
    try:
        from cpuinfo import get_cpu_info

        return dict(get_cpu_info())
    except Exception:  # py-cpuinfo may fail on a new machine; all other facts stand
        return {}


def cpu_brand() -> str:
    """Return the name that the CPU gives itself, or "unknown"."""
    return str(cpu_facts().get("brand_raw") or "unknown")


def describe(command: str, rounds: int, versions: dict[str, str]) -> dict[str, Any]:
    """Return the machine's record of a comparison with other runtimes.

    Args:
        command: the command of ``dynq bench``.
        rounds: how often each runtime was measured.
        versions: the versions of the runtimes' packages.

    Raises:
        IsaError: DYNQ_ISA names an instruction set that cannot run here.
    """
    isa = dynq.isa.selected()
    return {
        "cpu": cpu_brand(),
        "command": command,
        "dynq": dynq.__version__,
        "isa": isa,
        "rounds": rounds,
        "versions": versions,
    }
