"""Write a draft as a flatbuffer, with the builders of the published schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import tflite

from ...conversion import UnsupportedModelError
from ...core import files
from ...core.arguments import Array
from ...core.call import library_version
from .draft import KINDS, OPEN, Draft, Edge, Step

__all__ = ["write"]

_ALIGNMENT = 16  # bytes; the schema asks for it, since kernels read the data where it lies
_LARGEST = 2**31 - 2**20  # bytes of constants: a flatbuffer has less than 2 GiB
_VERSION = 3  # of the schema
_LAST_OLD_OPERATOR = 127  # numbers beyond have a field of their own


def write(draft: Draft, path: str) -> None:
    """Write the file, which appears under its name when it is complete."""
    parts = [(draft, draft.finish())]
    parts += [(body, body.finish()) for body in draft.bodies()]
    constants = [edge for _, tensors in parts for edge in tensors if edge.make is not None]
    size = sum(int(np.prod(e.dims)) * np.dtype(e.dtype).itemsize for e in constants)
    if size > _LARGEST:
        raise UnsupportedModelError(f"its constants have {size} bytes; a TensorFlow Lite file has less than 2 GiB", {})
    files.write(path, [_Writer(parts).file()])


class _Writer:
    def __init__(self, parts: list[tuple[Draft, list[Edge]]]) -> None:
        self.builder = flatbuffers.Builder(1024)
        self.parts = parts
        self.stored: dict[Callable[[], Array], int] = {}  # the buffer of what a constant is made by
        self.numbers = {draft: i for i, (draft, _) in enumerate(parts)}
        self.at = {edge: i for _, tensors in parts for i, edge in enumerate(tensors)}
        self.codes = list(dict.fromkeys((step.op, step.version) for draft, _ in parts for step in draft.steps))

    def file(self) -> memoryview:
        buffers = [self.table("Buffer")]  # the first is empty: that of tensors without data
        subgraphs = [self.subgraph(draft, tensors, buffers) for draft, tensors in self.parts]
        graph = self.parts[0][0]
        signature = self.table(
            "SignatureDef", SignatureKey=self.text("serving_default"), SubgraphIndex=0,
            Inputs=self.maps(graph.inputs), Outputs=self.maps(graph.outputs),
        )  # fmt: skip
        model = self.table(
            "Model", Version=_VERSION, Description=self.text(f"dynq {library_version()}"),
            OperatorCodes=self.tables([self.code(*code) for code in self.codes]),
            Subgraphs=self.tables(subgraphs), Buffers=self.tables(buffers), SignatureDefs=self.tables([signature]),
        )  # fmt: skip
        self.builder.Finish(model, b"TFL3")
        return memoryview(self.builder.Bytes)[self.builder.Head() :]

    def subgraph(self, draft: Draft, tensors: list[Edge], buffers: list[int]) -> int:
        made = [self.tensor(edge, buffers) for edge in tensors]
        return self.table(
            "SubGraph", Name=self.text(draft.graph.name if draft.is_body else "main"), Tensors=self.tables(made),
            Inputs=self.ints([self.at[edge] for _, edge in draft.inputs]),
            Outputs=self.ints([self.at[edge] for _, edge in draft.outputs]),
            Operators=self.tables([self.operator(step) for step in draft.steps]),
        )  # fmt: skip

    def table(self, name: str, **fields: Any) -> int:
        """Write a table. Its fields are numbers, or what was written before."""
        getattr(tflite, f"{name}Start")(self.builder)
        for key, value in fields.items():
            if value is not None:
                getattr(tflite, f"{name}Add{key}")(self.builder, value)
        return int(getattr(tflite, f"{name}End")(self.builder))

    def text(self, text: str) -> int:
        return int(self.builder.CreateString(text))

    def tables(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def ints(self, numbers: Any) -> int:
        return int(self.builder.CreateNumpyVector(np.array(numbers, np.int32)))

    def data(self, edge: Edge) -> int:
        """Write the data of a constant, row-major and little-endian."""
        assert edge.make is not None
        array = np.asarray(edge.make())
        assert array.shape == edge.dims and array.dtype == edge.dtype
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        builder = self.builder
        builder.StartVector(1, len(data), _ALIGNMENT)
        builder.head = builder.Head() - len(data)
        builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
        return int(builder.EndVector())

    def tensor(self, edge: Edge, buffers: list[int]) -> int:
        buffer = 0
        if edge.make is not None and edge.make in self.stored:  # subgraphs may have a constant in common
            buffer = self.stored[edge.make]
        elif edge.make is not None:
            buffer = self.stored[edge.make] = len(buffers)
            buffers.append(self.table("Buffer", Data=self.data(edge)))
        quantization = None
        if edge.quantized is not None:
            scale = edge.quantized.scale.astype(np.float32).reshape(-1)
            zeros = np.full(scale.size, edge.quantized.zero_point, np.int64)
            scales, points = (self.builder.CreateNumpyVector(vector) for vector in (scale, zeros))
            quantization = self.table("QuantizationParameters", Scale=scales, ZeroPoint=points, QuantizedDimension=0)
        is_open = OPEN in edge.dims
        return self.table(
            "Tensor", Name=self.text(edge.name), Type=KINDS[edge.dtype], Buffer=buffer, Quantization=quantization,
            Shape=self.ints([1 if dim == OPEN else dim for dim in edge.dims]),
            ShapeSignature=self.ints(edge.dims) if is_open else None, HasRank=True,
        )  # fmt: skip

    def operator(self, step: Step) -> int:
        more: dict[str, Any] = {}
        if step.options is not None:
            more["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, step.options)
            fields = {name: self.field(value) for name, value in step.fields.items()}
            more["BuiltinOptions"] = self.table(step.options, **fields)
        inputs = [-1 if edge is None else self.at[edge] for edge in step.inputs]
        return self.table(
            "Operator", OpcodeIndex=self.codes.index((step.op, step.version)), Inputs=self.ints(inputs),
            Outputs=self.ints([self.at[edge] for edge in step.outputs]), **more,
        )  # fmt: skip

    def field(self, value: Any) -> Any:
        """Return what an option is in the table: of lists, where they are written, of bodies, their numbers."""
        if isinstance(value, Draft):
            return self.numbers[value]
        return self.ints(value) if isinstance(value, list) else value

    def code(self, op: str, version: int) -> int:
        number = getattr(tflite.BuiltinOperator, op)
        return self.table("OperatorCode", DeprecatedBuiltinCode=min(number, _LAST_OLD_OPERATOR), BuiltinCode=number,
                          Version=version)  # fmt: skip

    def maps(self, named: list[tuple[str, Edge]]) -> int:
        return self.tables([
            self.table("TensorMap", Name=self.text(name), TensorIndex=self.at[edge]) for name, edge in named
        ])  # fmt: skip
