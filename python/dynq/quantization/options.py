"""The options that Graph.build, from_onnx and from_torch take by name, their defaults and what they do."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict, TypeVar

from ..core.arguments import GRANULARITIES, SCHEMES, Granularity, Scheme, choice
from ..ir.values import Node
from ..report import Choice
from .finer import Finer, matches

__all__ = ["BuildOptions", "Default", "FloatOrInt8", "GivenOptions", "Options", "takes_options"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
FloatOrInt8 = Literal["float", "int8"]
Default = Literal["measured", "int8"]
_FLOAT_OR_INT8: dict[FloatOrInt8, bool] = {"float": False, "int8": True}
_DEFAULTS: dict[Default, bool] = {"measured": True, "int8": False}


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """The options for quantizing a model.

    Args:
        quantize: if False, everything stays float32.
        keep_float: names of modules or nodes, or patterns (``"encoder.layer.0.*"``), that stay float32.
        attention: with "int8", the two products of attention are quantized too, both sides while the model runs.
        embedding: with "float", tables stay float32.
        scheme: how the inputs of linear layers are quantized, "asymmetric" or "symmetric".
        granularity: "row", a scale for each row, or "tensor", one for all.
        first_layer: with "int8" or "float", what layers that read an input of the model become. None: the default
            decides.
        int16: names of linear layers, or patterns. Their inputs get 16 bits instead of 8, which takes twice the time.
        group_size: how many values in a row of a linear layer's input share a scale: a multiple of 32 from 32 to
            256. By default the whole row shares one. A dict by name or pattern sets it for these layers only.
        ranges: fixed ranges of inputs, of convolutions too, by name or pattern. Values outside are clamped. calibrate()
            finds ranges. A small first layer is quantized if int16, group_size or ranges has it by its name.
        smooth: samples, as calibrate takes them. Channels that are outliers in them move into the weights before these
            are quantized, if that promises a gain.
        smooth_alpha: how far they move, 0 to 1. None picks the best of some values for each layer.
        default: what becomes of layers that the other options do not name. "measured": what the model's outputs need,
            by runs on made-up inputs. "int8": int8, with nothing measured.
        samples: inputs of a few runs in place of the made-up ones, as calibrate takes them.
        state: what the names of caches begin with, such as "past_key_values": inputs that outputs of the same end
            continue ("present.0.key"). A session keeps them then (Model.state). A dict gives outputs by input.
        max_positions: how many positions a sequence of such a cache can have.
    """

    quantize: bool = True
    keep_float: Iterable[str] = ()
    attention: FloatOrInt8 = "float"
    embedding: FloatOrInt8 = "int8"
    scheme: Scheme = "asymmetric"
    granularity: Granularity = "row"
    first_layer: FloatOrInt8 | None = None
    int16: Iterable[str] = ()
    group_size: int | Mapping[str, int] | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None
    smooth: Any = None
    smooth_alpha: float | None = None
    default: Default = "measured"
    samples: Any = None
    state: str | Mapping[str, str] | None = None
    max_positions: int = 32768

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> BuildOptions:
        """Return the options that a call was given by name.

        Raises:
            TypeError: there is no option of that name.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := [name for name in given if name not in known]:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}; the options are {', '.join(known)}")
        return cls(**given)


class GivenOptions(TypedDict, total=False):
    """The fields of BuildOptions, for the types of keyword arguments."""

    quantize: bool
    keep_float: Iterable[str]
    attention: FloatOrInt8
    embedding: FloatOrInt8
    scheme: Scheme
    granularity: Granularity
    first_layer: FloatOrInt8 | None
    int16: Iterable[str]
    group_size: int | Mapping[str, int] | None
    ranges: Mapping[str, tuple[float, float]] | None
    smooth: Any
    smooth_alpha: float | None
    default: Default
    samples: Any
    state: str | Mapping[str, str] | None
    max_positions: int


def takes_options(function: _Function) -> _Function:
    """Show the options of a function with ``**options`` one by one in its signature and its docstring."""
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for field in dataclasses.fields(BuildOptions):
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type))
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    if function.__doc__ is not None and BuildOptions.__doc__ is not None:  # python -OO has none
        texts = inspect.cleandoc(BuildOptions.__doc__).partition("Args:\n")[2]
        lines = inspect.cleandoc(function.__doc__).splitlines()
        function.__doc__ = "\n".join(texts if line.lstrip().startswith("options:") else line for line in lines)
    return function


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a build, checked."""

    quantize: bool = True
    keep_float: tuple[str, ...] = ()
    attention: bool = False
    embedding: bool = True
    scheme: Scheme = "asymmetric"
    granularity: Granularity = "row"
    first_layer: bool | None = None  # whether layers that read an input are int8; None: like the others
    first_layers: frozenset[str] = frozenset()  # the names of these layers, if first_layer is given
    measured: bool = False
    choices: Mapping[str, Choice] = dataclasses.field(default_factory=dict)  # what was measured, by layer
    finer: Finer = dataclasses.field(default_factory=Finer)
    smooth_alpha: float | None = None
    max_positions: int = 32768
    twin: bool = False  # build the float model that is smoothed as the quantized one is
    as_given: bool = False  # weights that are int8 stay so, whatever else is float

    @classmethod
    def of(cls, given: BuildOptions, twin: bool) -> Options:
        """Check options.

        Raises:
            ValueError, TypeError: one of them is wrong.
        """
        choice("scheme", given.scheme, SCHEMES)
        choice("granularity", given.granularity, GRANULARITIES)
        if given.smooth_alpha is not None and not 0 <= given.smooth_alpha <= 1:
            raise ValueError(f"smooth_alpha is {given.smooth_alpha}; expected 0 to 1, or None")
        if not isinstance(given.max_positions, int) or not 1 <= given.max_positions < 2**31:
            raise ValueError(f"max_positions is {given.max_positions!r}; expected 1 to {2**31 - 1}")
        return cls(
            quantize=bool(given.quantize),
            keep_float=_patterns(given.keep_float),
            attention=choice("attention", given.attention, _FLOAT_OR_INT8),
            embedding=choice("embedding", given.embedding, _FLOAT_OR_INT8),
            scheme=given.scheme,
            granularity=given.granularity,
            first_layer=None if given.first_layer is None else choice("first_layer", given.first_layer, _FLOAT_OR_INT8),
            measured=bool(given.quantize) and choice("default", given.default, _DEFAULTS),
            finer=Finer.of(given.int16, given.group_size, given.ranges, given.granularity),
            smooth_alpha=given.smooth_alpha,
            max_positions=given.max_positions,
            twin=twin,
        )

    def why_float(self, node: Node) -> str | None:
        """Return why ``node`` stays float; None if it does not."""
        for pattern in self.keep_float:
            if matches(node, pattern):
                return f"keep_float has {pattern!r}"
        if not self.quantize:
            return "quantize=False"
        if self.finer.names(node):
            return None
        if node.name in self.first_layers:
            return None if self.first_layer else "first_layer='float': it reads an input of the model"
        chosen = self.choices.get(node.name)
        return str(chosen) if chosen is not None and chosen.form == "float" else None

    def is_open(self, node: Node) -> bool:
        """Return whether no option says what a quantized layer becomes."""
        return node.name not in self.first_layers and not self.finer.sets(node)


def _patterns(keep_float: Any) -> tuple[str, ...]:
    patterns = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"keep_float has {pattern!r}; expected names of nodes or patterns")
    return patterns
