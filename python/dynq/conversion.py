"""Collect what an importer or an exporter refuses. One error reports all of it."""

from __future__ import annotations

from .errors import InvalidModelError, UnsupportedModelError

__all__ = ["InvalidModelError", "Problems", "Unsupported", "UnsupportedModelError"]

_SHOWN = 8  # nodes of one problem that a message names


class Unsupported(Exception):
    """One node cannot be converted; the reason is written for people."""


class Problems:
    """The problems that were met on the way through a model."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def add(self, what: str, node: str) -> None:
        nodes = self.found.setdefault(what, [])
        if node not in nodes:
            nodes.append(node)

    def check(self, model: str) -> None:
        """Raise an error if there are any problems."""
        self.refuse(f"{model} holds what dynq does not support:")

    def refuse(self, head: str) -> None:
        """Raise an error if there are any problems, whose text begins with ``head``."""
        if not self.found:
            return
        lines = [head]
        for what, nodes in self.found.items():
            shown = ", ".join(repr(node) for node in nodes[:_SHOWN])
            more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
            lines.append(f"  {what}: {shown}{more}")
        raise UnsupportedModelError("\n".join(lines), self.found)
