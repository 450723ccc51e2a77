"""The results of analyze, find_culprits and compare_static as data, from which tables, pages and pictures are made."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

__all__ = [
    "FLOAT_MODEL",
    "AnalysisResult",
    "CulpritsResult",
    "LayerRow",
    "OutputRow",
    "StaticResult",
    "StaticRow",
    "Trial",
]

FLOAT_MODEL = "the float model"  # a trial of it


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer. None stands for a missing number, such as the error of a layer that stays float."""

    name: str  # as keep_float takes it
    became: str  # "int8 linear", "float linear", ...
    why: str
    quantized: bool
    sqnr_db: float | None  # of the layer alone, on the float model's numbers; infinite if not a bit differs
    cosine: float | None
    output_sqnr_db: float | None  # the lowest of the model's outputs if this layer alone is quantized
    accumulated_sqnr_db: float | None  # of the layer's output in the whole quantized model
    accumulated_cosine: float | None
    code_use: float | None  # 0..1
    outliers: float | None  # 0..1
    weight_error: float | None  # relative
    macs: int  # of the first sample
    mac_share: float  # 0..1 of all layers
    seconds: float  # of the first sample, median
    time_share: float  # 0..1 of all nodes
    codes: tuple[int, ...]  # histogram of the codes of its input: 32 bins of 8 codes
    ranges: tuple[int, ...]  # histogram of the ranges of its input's blocks: bin i has 2^(i-14) to 2^(i-13)


@dataclasses.dataclass(frozen=True)
class OutputRow:
    """An output of the whole model."""

    name: str
    sqnr_db: float
    cosine: float


@dataclasses.dataclass(frozen=True)
class AnalysisResult:
    """The result of an analysis; ``rows`` are in the order in which layers run."""

    model: str
    rows: tuple[LayerRow, ...]
    outputs: tuple[OutputRow, ...]
    samples: int
    random: bool  # the samples were made up
    isa: str
    threads: int
    seconds: float  # of all nodes, on the first sample
    float_seconds: float  # of the float model

    @property
    def worst(self) -> tuple[LayerRow, ...]:
        """Quantized layers, those that alone do most to the model's outputs first."""
        return tuple(sorted((row for row in self.rows if row.quantized), key=_harm))

    def to_json(self) -> str:
        """Return JSON. Keys are the names of the fields; an infinite ratio is null beside a cosine of 1."""
        facts = dataclasses.asdict(self)
        return json.dumps(_without_infinities(facts), indent=2, allow_nan=False)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A model that was tried, and its score."""

    keep_float: tuple[str, ...]  # beside those of the options; the float model has all layers
    int16: tuple[str, ...]
    score: float
    what: str  # in words


@dataclasses.dataclass(frozen=True)
class CulpritsResult:
    """The result of a search for culprits, and all that it tried."""

    keep_float: list[str]
    int16: list[str]
    score: float
    target: float
    base_score: float  # of the model quantized with the options alone
    float_score: float
    metric: str
    cost: float  # share of the layers' work and weights that is not 8-bit any more: the mean of both
    trials: tuple[Trial, ...]

    @property
    def reached(self) -> bool:
        return self.score >= self.target

    def to_json(self) -> str:
        return json.dumps({**dataclasses.asdict(self), "reached": self.reached}, indent=2, allow_nan=False)


@dataclasses.dataclass(frozen=True)
class StaticRow:
    """The distance of both models from the float32 outputs, on one kind of data."""

    kind: str  # "samples", "gain", "noise" or "other"
    amount: float | str  # the gain, the noise's share of the input's root mean square, the other data's name
    dynamic_sqnr: float  # dB
    static_sqnr: float
    dynamic_cosine: float
    static_cosine: float

    @property
    def label(self) -> str:
        return {
            "samples": "like the samples",
            "gain": f"gain {self.amount}",
            "noise": f"noise of {self.amount} x the input",
            "other": str(self.amount),
        }[self.kind]


@dataclasses.dataclass(frozen=True)
class StaticResult:
    """Dynamic beside static quantization: errors on each kind of data, and times."""

    method: str
    samples: int  # how many samples the ranges come from
    tested: int
    float_seconds: float  # medians, of one run
    dynamic_seconds: float
    static_seconds: float
    rows: tuple[StaticRow, ...]

    def to_json(self) -> str:
        """Return JSON, with null for numbers that are not finite."""
        facts = dataclasses.asdict(self)
        for row in facts["rows"]:
            row.update((k, None) for k, v in row.items() if isinstance(v, float) and not math.isfinite(v))
        return json.dumps(facts, indent=2)


def _harm(row: LayerRow) -> float:
    return math.inf if row.output_sqnr_db is None else row.output_sqnr_db


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
