"""What the commands share: JSON, tables, the CPU's name."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, indent=2))


def console() -> Console:
    return Console(highlight=False)


def cpu_brand() -> str:
    """The name that the CPU gives itself; py-cpuinfo takes a second, and may know nothing of a new machine."""
    try:
        from cpuinfo import get_cpu_info

        return str(get_cpu_info().get("brand_raw") or "unknown")
    except Exception:  # whatever it meets there, the rest of the page stands
        return "unknown"
