"""What became of each node of a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

__all__ = ["Report", "Row"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A node with weights, or one that is not what it was."""

    node: str
    became: str
    why: str
    bytes_before: int = 0  # of its weights, as float32
    bytes_after: int = 0


@dataclasses.dataclass(frozen=True)
class Report:
    """Print it with rich, or as text; ``rows`` has the facts."""

    rows: tuple[Row, ...]

    @property
    def bytes_before(self) -> int:
        return sum(row.bytes_before for row in self.rows)

    @property
    def bytes_after(self) -> int:
        return sum(row.bytes_after for row in self.rows)

    @property
    def kept_float(self) -> tuple[Row, ...]:
        """Rows of what could be int8 and is not."""
        return tuple(row for row in self.rows if row.became.startswith("float "))

    def to_json(self) -> str:
        return json.dumps([dataclasses.astuple(row) for row in self.rows], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Raises ValueError or TypeError where ``text`` is not what to_json writes."""
        rows = tuple(Row(*row) for row in json.loads(text))
        kinds = tuple(tuple(type(field) for field in dataclasses.astuple(row)) for row in rows)
        if any(kind != (str, str, str, int, int) for kind in kinds):
            raise TypeError("a row is not three texts and two numbers")
        return cls(rows)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.table import Table  # takes as long to import as dynq itself

        table = Table("node", "became", "why", "bytes before", "after")
        for column in table.columns[:3]:
            column.overflow = "fold"  # a name that is cut is no name
        for column in table.columns[3:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(row.node, row.became, row.why, _bytes(row.bytes_before), _bytes(row.bytes_after))
        table.add_section()
        table.add_row("", "", "all weights", _bytes(self.bytes_before), _bytes(self.bytes_after), style="bold")
        yield table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=160, force_terminal=False, no_color=True)
        with console.capture() as capture:
            console.print(self)
        return capture.get()


def _bytes(size: int) -> str:
    return f"{size:,}" if size else ""
