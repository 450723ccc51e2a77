"""The report of a model: what each node became."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["MOST_FLOAT", "Choice", "Report", "Row", "Smoothing", "as_text", "percent", "shares"]

MOST_FLOAT = 0.05  # of the weights that stay float without a warning
_SHOWN = 8  # kinds of layers that a warning names
_LEAST_SHARE = 0.01  # of the weights, or of the multiply-adds, that is told of


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """The way that outliers in the inputs of a layer moved into its weight."""

    alpha: float
    node: str | None  # the node that divides its outputs; None: a Mul before the layer does

    def __str__(self) -> str:
        where = "by a Mul before it" if self.node is None else f"in {self.node}"
        return f"smoothed with alpha {self.alpha:g}, {where}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The form that was chosen for a layer by measuring, without data: "int8", "int16" or "float"."""

    form: str
    own: float  # the signal-to-noise ratio of the layer's output as int8, in dB
    output: float | None = None  # that of the model's outputs if this layer alone is int8; None: other layers cost more
    others: tuple[
        tuple[str, float, float, int], ...
    ] = ()  # form, ratio of the outputs, more time (a share), more bytes

    def __str__(self) -> str:
        if self.output is None:
            return f"int8 brings {self.own:g} dB to its output"
        others = "".join(
            f", {form} {ratio:g} dB for {time:.1%} more time" + (f" and {size:,} more bytes" if size else "")
            for form, ratio, time, size in self.others
        )
        return f"int8 would bring the model's outputs to {self.output:g} dB{others}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A node with weights, or one that has changed. ``became`` and ``why`` are texts for people, not to be parsed."""

    node: str
    kind: str  # "linear", "conv", "embedding", "LSTM", ...; the op, if the node is no layer
    reason: str = ""
    bytes_before: int = 0  # of its weights, as float32
    bytes_after: int = 0
    _: dataclasses.KW_ONLY
    quantized: bool = False
    layer: bool = True  # whether it is quantized, or could be
    bits: int = 8  # of the inputs of a quantized layer; 32: they are float, and only the weight is int8
    group: int | None = None  # values of a row of the inputs that share a scale; None: all
    fixed_range: tuple[float, float] | None = None  # of the inputs; None: each run computes its own
    smoothed: Smoothing | None = None
    choice: Choice | None = None  # None: the layer was not measured
    merged: tuple[str, ...] = ()  # layers that became this one, in the order of their outputs
    asked: bool = False  # whether it stays float because of an option or of what was measured
    macs: int | None = None  # multiply-adds of a run, sizes that inputs leave open counting as 1; None: not known

    @property
    def became(self) -> str:
        """Return what the node became, such as ``"int8 linear, 16-bit activations"``."""
        if not self.layer:
            return self.kind
        text = f"{'int8' if self.quantized else 'float'} {self.kind}"
        if self.bits != 8:
            text += ", float activations" if self.bits == 32 else f", {self.bits}-bit activations"
        if self.group is not None:
            text += f", scales of {self.group}"
        if self.fixed_range is not None:
            text += ", fixed range {:.4g} to {:.4g}".format(*self.fixed_range)
        return text

    @property
    def why(self) -> str:
        """Return the reason, such as ``"its weight is constant; one product for q, k, v"``."""
        text = self.reason
        if self.smoothed is not None:
            text += f"; {self.smoothed}"
        if self.choice is not None and self.choice.form == "int16":
            text += f"; {self.choice}"
        if self.merged:
            text += f"; one product for {', '.join(self.merged)}"
        return text


@dataclasses.dataclass(frozen=True)
class Report:
    """The report of a model. Print it with rich, or as text; ``rows`` has the facts."""

    rows: tuple[Row, ...]
    shares_in_reasons: bool = False  # whether the rows tell what share of the weights they have

    @property
    def bytes_before(self) -> int:
        return sum(row.bytes_before for row in self.rows)

    @property
    def bytes_after(self) -> int:
        return sum(row.bytes_after for row in self.rows)

    @property
    def kept_float(self) -> tuple[Row, ...]:
        """Return the rows of nodes that could be int8 and are not."""
        return tuple(row for row in self.rows if row.layer and not row.quantized)

    def float_share(self, row: Row) -> str:
        """Return what part of the weights and of the multiply-adds a row that stays float has; "" if both are small."""
        if not row.layer or row.quantized or self.shares_in_reasons:
            return ""
        known = all(other.macs is not None for other in self.rows if other.layer)
        sums = (
            ("weights", row.bytes_before, self.bytes_before),
            ("multiply-adds", row.macs or 0 if known else 0, sum(other.macs or 0 for other in self.rows)),
        )
        parts = [
            f"{percent(part / total)} of the {name}"
            for name, part, total in sums
            if total and part >= _LEAST_SHARE * total
        ]
        return " and ".join(parts)

    def float_weights(self) -> str:
        """Say what stays float without anybody asking for it, if it is over 5 % of the weights; else ""."""
        kinds: dict[str, int] = {}
        for row in self.kept_float:
            if not row.asked and row.bytes_before:
                kinds[row.kind] = kinds.get(row.kind, 0) + row.bytes_before
        return shares(kinds, self.bytes_before) if sum(kinds.values()) > MOST_FLOAT * self.bytes_before else ""

    def to_json(self) -> str:
        return json.dumps([_facts(row) for row in self.rows], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return the report that to_json wrote, or an earlier version of it.

        Raises:
            ValueError, TypeError: the text is something else.
        """
        return cls(tuple(_row(facts) for facts in json.loads(text)))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.table import Table  # takes as long to import as dynq itself

        table = Table("node", "became", "why", "bytes before", "after")
        for column in table.columns[:3]:
            column.overflow = "fold"  # do not cut names
        for column in table.columns[3:]:
            column.justify = "right"
        for row in self.rows:
            why = "; ".join(filter(None, (row.why, self.float_share(row))))
            table.add_row(row.node, row.became, why, _bytes(row.bytes_before), _bytes(row.bytes_after))
        table.add_section()
        table.add_row("", "", "all weights", _bytes(self.bytes_before), _bytes(self.bytes_after), style="bold")
        yield table

    def __str__(self) -> str:
        return as_text(self, 160)


def as_text(shown: Any, width: int) -> str:
    """Return what rich prints of an object, without colours."""
    from .terminal import SafeConsole

    console = SafeConsole(width=width, force_terminal=False, no_color=True)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def shares(kinds: dict[str, int], total: int) -> str:
    """Say what parts of the weights stay float, by kinds of layers, the largest first."""
    order = sorted(kinds, key=lambda kind: -kinds[kind])
    parts = [f"{kind} {percent(kinds[kind] / total)}" for kind in order[:_SHOWN]]
    more = f", and {len(order) - _SHOWN} more kinds" if len(order) > _SHOWN else ""
    share = percent(sum(kinds.values()) / total)
    return f"{share} of the weights stay float (report says why): {', '.join(parts)}{more}"


def percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"


def _bytes(size: int) -> str:
    return f"{size:,}" if size else ""


# ---- JSON: an object for each row, without the fields that have their defaults


def _facts(row: Row) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(row)}
    return {name: value for name, value in dataclasses.asdict(row).items() if value != defaults[name]}


def _row(facts: Any) -> Row:
    if isinstance(facts, list):
        return _row_of_texts(*facts)
    if not isinstance(facts, dict):
        raise TypeError(f"a row is {facts!r}; expected an object")
    facts = dict(facts)
    if facts.get("smoothed") is not None:
        facts["smoothed"] = Smoothing(**facts["smoothed"])
    if facts.get("choice") is not None:
        facts["choice"] = _choice(**facts["choice"])
    for name in ("merged", "fixed_range"):
        if facts.get(name) is not None:
            facts[name] = tuple(facts[name])
    row = Row(**facts)
    _check_type(row, str, "node", "kind", "reason")
    _check_type(row, int, "bytes_before", "bytes_after", "bits")
    _check_type(row, bool, "quantized", "layer", "asked")
    bounds, smoothed = row.fixed_range, row.smoothed
    right = (
        all(isinstance(name, str) for name in row.merged)
        and all(number is None or type(number) is int for number in (row.group, row.macs))
        and (bounds is None or [type(bound) for bound in bounds] == [float, float])
        and (smoothed is None or (type(smoothed.alpha) is float and isinstance(smoothed.node, (str, type(None)))))
    )
    if not right:
        raise TypeError(f"the row of {row.node!r} has a field of another type")
    return row


def _choice(form: Any, own: Any, output: Any = None, others: Any = ()) -> Choice:
    choice = Choice(
        form,
        own,
        output,
        tuple((str(name), float(ratio), float(time), int(size)) for name, ratio, time, size in others),
    )
    numbers = type(own) is float and (output is None or type(output) is float)
    if type(form) is not str or not numbers:
        raise TypeError(f"the choice of a row is {choice!r}, which has a field of another type")
    return choice


def _check_type(row: Row, kind: type, *names: str) -> None:
    for name in names:
        if type(getattr(row, name)) is not kind:
            raise TypeError(f"{name} of a row is {getattr(row, name)!r}; expected {kind.__name__}")


# ---- Files that were written before rows had fields; nothing else reads texts


_BECAME = re.compile(
    r"(?P<form>int8|float) (?P<kind>.*?)(, (?P<bits>16)-bit activations)?(, scales of (?P<group>\d+))?"
    r"(, fixed range (?P<lo>[-+.e\d]+) to (?P<hi>[-+.e\d]+))?"
)
_WHY = re.compile(
    r"(?P<reason>.*?)(; smoothed with alpha (?P<alpha>[-+.e\d]+), (by a Mul before it|in (?P<node>.*?)))?"
    r"(; one product for (?P<merged>.*))?",
    re.DOTALL,
)


def _row_of_texts(node: str, became: str, why: str, before: int, after: int) -> Row:
    """Return the row of a file that was written before rows had fields. ``became`` and ``why`` are all that it has."""
    if [type(field) for field in (node, became, why, before, after)] != [str, str, str, int, int]:
        raise TypeError("a row is not three texts and two numbers")
    layer = _BECAME.fullmatch(became)
    if layer is None:
        return Row(node, became, why, before, after, layer=False)
    row = Row(node, layer["kind"], why, before, after, quantized=layer["form"] == "int8")
    if not row.quantized:
        return row
    told = _WHY.fullmatch(why)
    assert told is not None  # its parts may all be empty
    return dataclasses.replace(
        row,
        reason=told["reason"],
        bits=int(layer["bits"] or 8),
        group=None if layer["group"] is None else int(layer["group"]),
        fixed_range=None if layer["lo"] is None else (float(layer["lo"]), float(layer["hi"])),
        smoothed=None if told["alpha"] is None else Smoothing(float(told["alpha"]), told["node"]),
        merged=() if told["merged"] is None else tuple(told["merged"].split(", ")),
    )
