"""Read a TensorFlow Lite file through the published schema, and verify all that the conversion relies on.

Nothing of the schema's own classes is read later but the options of operators. The number of things that a file may
list is bounded by its size, since offsets may lead to one place many times.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import flatbuffers
import numpy as np
import tflite
from tflite.Model import Model

from ...conversion import InvalidModelError
from ...core.arguments import Array
from ...ir.given import MAX_RANK
from .sparse import Sparsity, read_sparsity

__all__ = ["CUSTOM", "DAMAGED", "Operator", "Quantization", "Source", "Subgraph", "Tensor", "load", "op_name"]

CUSTOM = 32  # the number of BuiltinOperator for ops of others
_BUILTIN_CODE = 10  # where the vtable of an OperatorCode has the place of builtin_code
_VERSION = 3
_IDENTIFIER = b"TFL3"
_BYTES_OF_A_THING = 8  # at least: an offset of a table and the table, or an index and its share of an operator
_MOST_THINGS = 1_000_000  # as in TensorFlow Lite's own verifier
_SMALL_FILE = 1000  # things that any file may have

# What reading bytes that are no model may raise, in flatbuffers, in NumPy and here.
DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)

_OPS = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
_OPTIONS, _OPTIONS_2 = (
    {number: name for name, number in vars(union).items() if isinstance(number, int)}
    for union in (tflite.BuiltinOptions, tflite.BuiltinOptions2)
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Quantization:
    """Scales of integers, of an axis or of all: ``(q - zero_point) * scale``."""

    scale: Array  # float32, 1-D
    zero_point: Array  # int64, as many
    axis: int


@dataclass(frozen=True)
class Tensor:
    index: int
    name: str
    kind: int  # TensorType's number
    shape: tuple[int, ...]
    signature: tuple[int, ...]  # the shape with -1 for sizes that are open
    data: Array | None  # bytes of a constant
    quantization: Quantization | None
    sparsity: Sparsity | None
    is_variable: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    op: str  # the name of BuiltinOperator; CUSTOM:NAME for others'
    inputs: tuple[int, ...]  # -1 for one that is left out
    outputs: tuple[int, ...]
    options_type: str  # the name of the class in the schema; NONE
    options: Any  # an object of that class
    custom_options: bytes


@dataclass(frozen=True)
class Subgraph:
    name: str
    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: list[Operator]


@dataclass(frozen=True)
class Signature:
    key: str
    subgraph: int
    inputs: dict[int, str]
    outputs: dict[int, str]


@dataclass
class Source:
    name: str
    subgraphs: list[Subgraph] = field(default_factory=list)
    signatures: list[Signature] = field(default_factory=list)


def op_name(number: int) -> str:
    return str(_OPS.get(number, f"number {number}"))


def load(model: str | os.PathLike[str] | bytes) -> Source:
    """Read and verify a file, which is mapped, or the bytes of one."""
    if isinstance(model, bytes):
        return _read(model, "the model")
    name = os.path.basename(os.fspath(model))
    with open(os.open(model, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise InvalidModelError(f"{name}: not a TensorFlow Lite model, but no file at all")
        if found.st_size == 0:
            raise InvalidModelError(f"{name}: not a TensorFlow Lite model, but an empty file")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _read(data, name)


def _read(data: bytes | mmap.mmap, name: str) -> Source:
    if len(data) < 8 or data[4:8] != _IDENTIFIER:
        raise InvalidModelError(f"{name}: not a TensorFlow Lite model: bytes 4 to 7 are not {_IDENTIFIER.decode()}")
    reading = _Reading(data, name)
    return reading.source()


class _Reading:
    """One file while it is read."""

    def __init__(self, data: bytes | mmap.mmap, name: str) -> None:
        self.data = data
        self.bytes: Array = np.frombuffer(data, np.uint8)
        self.name = name
        self.left = min(_SMALL_FILE + len(data) // _BYTES_OF_A_THING, _MOST_THINGS)
        self.buffers: list[Array | None] = []

    def source(self) -> Source:
        result = Source(self.name)
        with self.part("the model"):
            model = Model.GetRootAs(self.data, 0)
            if model.Version() != _VERSION:
                raise ValueError(f"version {model.Version()} of the schema; expected {_VERSION}")
            codes = [self.code(code) for code in self.each(model.OperatorCodes, model.OperatorCodesLength())]
        for i, buffer in enumerate(self.each(model.Buffers, self.length(model.BuffersLength))):
            with self.part(f"buffer {i}"):
                self.buffers.append(self.buffer(buffer))
        for i, graph in enumerate(self.each(model.Subgraphs, self.length(model.SubgraphsLength))):
            result.subgraphs.append(self.subgraph(graph, i, codes))
        if not result.subgraphs:
            raise InvalidModelError(f"{self.name} has no subgraph")
        for i, signature in enumerate(self.each(model.SignatureDefs, self.length(model.SignatureDefsLength))):
            with self.part(f"signature {i}"):
                result.signatures.append(self.signature(signature, result.subgraphs))
        return result

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Say in which part of the file an error is."""
        try:
            yield
        except DAMAGED as error:
            if isinstance(error, InvalidModelError):
                raise
            text = str(error) or type(error).__name__
            raise InvalidModelError(f"{self.name} is damaged: {what}: {text}") from error

    def length(self, function: Callable[[], int]) -> int:
        with self.part("the model"):
            return function()

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise InvalidModelError(
                f"{self.name} is damaged: it lists more than its {len(self.data)} bytes can hold, or too much"
            )

    def each(self, get: Callable[[int], _T | None], count: int) -> Iterator[_T]:
        """Yield the tables of a list, as far as the file may have so many."""
        self.take(count)
        for i in range(count):
            with self.part(f"entry {i} of a list of {count}"):
                item = get(i)
                if item is None:
                    raise ValueError("missing")
            yield item

    def numbers(self, table: Any, name: str, limit: int | None = None) -> list[Any]:
        """Return a list of numbers; the schema gives 0 for one that is not there."""
        count = getattr(table, f"{name}Length")()
        if limit is not None and count > limit:
            raise ValueError(f"{name} has {count} elements; expected {limit} at most")
        self.take(count)
        array = getattr(table, f"{name}AsNumpy")() if count else np.empty(0)
        return [] if isinstance(array, int) else array.tolist()

    def text(self, value: bytes | None) -> str:
        self.take(0 if value is None else len(value) // 64)
        return "" if value is None else value.decode("utf-8", "replace").replace("\0", "")

    def code(self, code: Any) -> tuple[int, str]:
        """Return the number of an op and the name of a custom one. Files may have the number in one field of two."""
        at = code._tab.Offset(_BUILTIN_CODE)  # the accessor gives the older field where the newer one is small
        newer = int(code._tab.Get(flatbuffers.number_types.Int32Flags, at + code._tab.Pos)) if at else 0
        return max(code.DeprecatedBuiltinCode(), newer), self.text(code.CustomCode())

    def buffer(self, buffer: Any) -> Array | None:
        """Return the bytes, which lie in the flatbuffer or behind it; None if there are none."""
        if buffer.Offset() > 1:
            begin, size = buffer.Offset(), buffer.Size()
            if begin + size > self.bytes.size:
                raise ValueError(f"bytes {begin} to {begin + size}, but the file has {self.bytes.size}")
            return self.bytes[begin : begin + size]
        if buffer.DataLength() == 0:
            return None
        array: Array = buffer.DataAsNumpy()
        return array

    def subgraph(self, graph: Any, number: int, codes: list[tuple[int, str]]) -> Subgraph:
        where = f"subgraph {number}"
        with self.part(where):
            name = self.text(graph.Name()) or where
            tensor_count, operator_count = graph.TensorsLength(), graph.OperatorsLength()
            inputs, outputs = self.numbers(graph, "Inputs"), self.numbers(graph, "Outputs")
        tensors: list[Tensor] = []
        for i, tensor in enumerate(self.each(graph.Tensors, tensor_count)):
            with self.part(f"{where}, tensor {i}"):
                tensors.append(self.tensor(tensor, i))
        operators = []
        for i, operator in enumerate(self.each(graph.Operators, operator_count)):
            with self.part(f"{where}, operator {i}"):
                operators.append(self.operator(operator, codes, len(tensors)))
        with self.part(where):
            self.check_indices("an input", inputs, len(tensors), 0)
            self.check_indices("an output", outputs, len(tensors), 0)
            _check_order(tensors, inputs, outputs, operators)
        return Subgraph(name, tensors, tuple(inputs), tuple(outputs), operators)

    def check_indices(self, what: str, indices: Sequence[int], count: int, least: int) -> None:
        for index in indices:
            if not least <= index < count:
                raise ValueError(f"{what} is tensor {index} of {count}")

    def tensor(self, tensor: Any, index: int) -> Tensor:
        name = self.text(tensor.Name()) or f"tensor_{index}"
        shape = self.numbers(tensor, "Shape", MAX_RANK)
        signature = self.numbers(tensor, "ShapeSignature", MAX_RANK)
        if len(signature) not in (0, len(shape)) or min(shape, default=0) < 0 or min(signature, default=0) < -1:
            raise ValueError(f"{name!r} has shape {shape} and signature {signature}")
        if math.prod(shape) * 8 >= 2**63:
            raise ValueError(f"{name!r} has shape {shape}, too large for any memory")
        at = tensor.Buffer()
        if not 0 <= at < max(len(self.buffers), 1):
            raise ValueError(f"{name!r} has its data in buffer {at} of {len(self.buffers)}")
        data = self.buffers[at] if at else None
        sparsity = tensor.Sparsity()
        return Tensor(
            index, name, tensor.Type(), tuple(shape), tuple(signature or shape), data,
            self.quantization(tensor.Quantization(), shape),
            None if sparsity is None else read_sparsity(sparsity, self.numbers, self.each, shape),
            bool(tensor.IsVariable()),
        )  # fmt: skip

    def quantization(self, quantization: Any, shape: list[int]) -> Quantization | None:
        if quantization is None or quantization.ScaleLength() == 0:
            return None
        if quantization.DetailsType() != 0:
            raise ValueError("quantized in a way of its own")
        count, zeros = quantization.ScaleLength(), quantization.ZeroPointLength()
        self.take((count + zeros) // 64)
        scale = np.array(quantization.ScaleAsNumpy(), np.float32)
        zero_point = np.array(quantization.ZeroPointAsNumpy() if zeros else np.zeros(count), np.int64)
        if zero_point.size == 1:
            zero_point = np.broadcast_to(zero_point, scale.shape)
        axis = quantization.QuantizedDimension()
        if zero_point.shape != scale.shape or not np.isfinite(scale).all() or not (scale >= 0).all():
            raise ValueError(f"{count} scales and {zeros} zero-points, or scales that are none")
        if count > 1 and (not 0 <= axis < len(shape) or shape[axis] != count):
            raise ValueError(f"{count} scales along axis {axis} of shape {shape}")
        return Quantization(scale, zero_point, axis)

    def operator(self, operator: Any, codes: list[tuple[int, str]], tensors: int) -> Operator:
        index = operator.OpcodeIndex()
        if not 0 <= index < len(codes):
            raise ValueError(f"its op is number {index} of {len(codes)}")
        number, custom = codes[index]
        inputs, outputs = self.numbers(operator, "Inputs"), self.numbers(operator, "Outputs")
        self.check_indices("an input", inputs, tensors, -1)
        self.check_indices("an output", outputs, tensors, 0)
        kinds, kind, table = _OPTIONS, operator.BuiltinOptionsType(), operator.BuiltinOptions()
        if kind == 0 and operator.BuiltinOptions2Type():
            kinds, kind, table = _OPTIONS_2, operator.BuiltinOptions2Type(), operator.BuiltinOptions2()
        options_type, options = kinds.get(kind, f"number {kind}"), None
        if kind and hasattr(tflite, options_type):
            if table is None:
                raise ValueError(f"its {options_type} are missing")
            options = getattr(tflite, options_type)()
            options.Init(table.Bytes, table.Pos)
        op = op_name(number) if number != CUSTOM else f"CUSTOM:{custom}"
        return Operator(op, tuple(inputs), tuple(outputs), options_type, options, self.custom_options(operator))

    def custom_options(self, operator: Any) -> bytes:
        begin, count = operator.LargeCustomOptionsOffset(), operator.LargeCustomOptionsSize()
        if begin > 1:
            self.take(count // _BYTES_OF_A_THING)
            return bytes(self.data[begin : begin + count])
        count = operator.CustomOptionsLength()
        self.take(count // _BYTES_OF_A_THING)
        return bytes(operator.CustomOptionsAsNumpy()) if count else b""

    def signature(self, signature: Any, subgraphs: list[Subgraph]) -> Signature:
        at = signature.SubgraphIndex()
        if not 0 <= at < len(subgraphs):
            raise ValueError(f"subgraph {at} of {len(subgraphs)}")
        names: list[dict[int, str]] = []
        for get, count in (
            (signature.Inputs, signature.InputsLength()),
            (signature.Outputs, signature.OutputsLength()),
        ):
            tensors = list(self.each(get, count))
            self.check_indices("a tensor", [t.TensorIndex() for t in tensors], len(subgraphs[at].tensors), 0)
            names.append({t.TensorIndex(): self.text(t.Name()) for t in tensors})
        return Signature(self.text(signature.SignatureKey()), at, *names)


def _check_order(tensors: list[Tensor], inputs: list[int], outputs: list[int], operators: list[Operator]) -> None:
    """Check that each tensor is computed once, before it is read."""
    known = set(inputs)
    known.update(t.index for t in tensors if t.data is not None or t.is_variable or t.count == 0)
    computed = set(inputs)
    for i, operator in enumerate(operators):
        for index in operator.inputs:
            if index >= 0 and index not in known:
                raise ValueError(
                    f"operator {i} ({operator.op}) reads {tensors[index].name!r}, which nothing before it computes"
                )
        for index in operator.outputs:
            if index in computed or tensors[index].data is not None:
                raise ValueError(f"operator {i} ({operator.op}) computes {tensors[index].name!r}, which is there")
        known.update(operator.outputs)
        computed.update(operator.outputs)
    for index in outputs:
        if index not in known:
            raise ValueError(f"nothing computes the output {tensors[index].name!r}")
