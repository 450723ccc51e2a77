"""Write small TensorFlow Lite files with the published schema, and run files in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite

VERSIONS = {"BROADCAST_TO": 2}  # of ops whose first version LiteRT does not have
KINDS = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "bool": 6,
    "int16": 7,
    "complex64": 8,
    "int8": 9,
    "int4": 17,
}


@dataclass
class T:
    """A tensor: with data it is a constant."""

    shape: Sequence[int]
    dtype: str = "float32"
    data: Any = None
    scale: Any = None
    zero_point: Any = None
    axis: int = 0
    signature: Sequence[int] | None = None
    variable: bool = False
    sparsity: Any = None  # (order, blocks, levels): a level is a size, or (segments, indices)


@dataclass
class Op:
    op: str
    inputs: str  # names with spaces between; - for one that is left out
    outputs: str
    options: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    custom_options: bytes | None = None


@dataclass
class Graph:
    tensors: Mapping[str, T]
    ops: Sequence[Op]
    inputs: str
    outputs: str


def constant(array: Any, dtype: str | None = None, **more: Any) -> T:
    array = np.asarray(array)
    return T(array.shape, dtype or array.dtype.name, array, **more)


def write(*graphs: Graph, signatures: Sequence[tuple[str, int, Mapping[str, str], Mapping[str, str]]] = ()) -> bytes:
    """Return the bytes of a file with these subgraphs; signatures have a key, a subgraph, and names of tensors."""
    return _Writer().file(graphs, signatures)


class _Writer:
    def __init__(self) -> None:
        self.b = flatbuffers.Builder(1024)
        self.buffers: list[bytes] = [b""]
        self.codes: list[str] = []

    def file(self, graphs: Sequence[Graph], signatures: Sequence[Any]) -> bytes:
        subgraphs = [self.subgraph(graph) for graph in graphs]
        made = [self.signature(graphs, *signature) for signature in signatures]
        buffers = [self.table("Buffer", Data=data or None) for data in self.buffers]
        codes = [self.code(op) for op in self.codes]
        offset = self.table(
            "Model",
            Version=3,
            OperatorCodes=self.tables(codes),
            Subgraphs=self.tables(subgraphs),
            Buffers=self.tables(buffers),
            SignatureDefs=self.tables(made) if made else None,
        )
        self.b.Finish(offset, b"TFL3")
        return bytes(self.b.Output())

    def table(self, name: str, **fields: Any) -> int:
        """Write a table: bytes, texts and arrays become vectors, _Offset one that is there."""
        ready = {key: self.value(value) for key, value in fields.items() if value is not None}
        getattr(tflite, f"{name}Start")(self.b)
        for key, value in ready.items():
            getattr(tflite, f"{name}Add{key}")(self.b, value)
        return int(getattr(tflite, f"{name}End")(self.b))

    def value(self, value: Any) -> Any:
        if isinstance(value, _Offset):
            return value.at
        if isinstance(value, str):
            return self.b.CreateString(value)
        if isinstance(value, bytes):
            return self.b.CreateNumpyVector(np.frombuffer(value, np.uint8))
        if isinstance(value, (list, tuple)):
            return self.b.CreateNumpyVector(np.array(value, np.int32))
        if isinstance(value, np.ndarray):
            return self.b.CreateNumpyVector(np.ascontiguousarray(value))
        return value

    def tables(self, offsets: Sequence[int]) -> _Offset:
        self.b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.b.PrependUOffsetTRelative(offset)
        return _Offset(int(self.b.EndVector()))

    def code(self, op: str) -> int:
        custom = op.partition(":")[2]
        number = 32 if custom else getattr(tflite.BuiltinOperator, op)
        more = {"CustomCode": custom} if custom else {}
        return self.table(
            "OperatorCode",
            DeprecatedBuiltinCode=min(number, 127),
            BuiltinCode=number,
            Version=VERSIONS.get(op, 1),
            **more,
        )

    def subgraph(self, graph: Graph) -> int:
        at = {name: i for i, name in enumerate(graph.tensors)}
        tensors = self.tables([self.tensor(name, tensor) for name, tensor in graph.tensors.items()])
        ops = self.tables([self.operator(op, at) for op in graph.ops])
        inputs, outputs = ([at[name] for name in names.split()] for names in (graph.inputs, graph.outputs))
        return self.table("SubGraph", Tensors=tensors, Inputs=inputs, Outputs=outputs, Operators=ops, Name="main")

    def tensor(self, name: str, tensor: T) -> int:
        buffer = 0
        if tensor.data is not None:
            buffer = len(self.buffers)
            self.buffers.append(_bytes(tensor))
        quantization = None
        if tensor.scale is not None:
            scale = np.atleast_1d(np.array(tensor.scale, np.float32))
            zeros = np.zeros(scale.shape) if tensor.zero_point is None else np.atleast_1d(tensor.zero_point)
            quantization = _Offset(
                self.table(
                    "QuantizationParameters",
                    Scale=scale,
                    ZeroPoint=zeros.astype(np.int64),
                    QuantizedDimension=tensor.axis,
                )
            )
        return self.table(
            "Tensor",
            Shape=list(tensor.shape),
            Type=KINDS[tensor.dtype],
            Buffer=buffer,
            Name=name,
            Quantization=quantization,
            IsVariable=tensor.variable or None,
            ShapeSignature=None if tensor.signature is None else list(tensor.signature),
            Sparsity=None if tensor.sparsity is None else _Offset(self.sparsity(*tensor.sparsity)),
        )

    def sparsity(self, order: list[int], blocks: list[int], levels: Sequence[Any]) -> int:
        metas = []
        for level in levels:
            if isinstance(level, int):
                metas.append(self.table("DimensionMetadata", Format=0, DenseSize=level))
                continue
            segments, indices = (_Offset(self.table("Int32Vector", Values=list(part))) for part in level)
            metas.append(
                self.table(
                    "DimensionMetadata",
                    Format=1,
                    ArraySegmentsType=1,
                    ArraySegments=segments,
                    ArrayIndicesType=1,
                    ArrayIndices=indices,
                )
            )
        more = {"BlockMap": blocks} if blocks else {}
        return self.table("SparsityParameters", TraversalOrder=order, DimMetadata=self.tables(metas), **more)

    def operator(self, op: Op, at: dict[str, int]) -> int:
        if op.op not in self.codes:
            self.codes.append(op.op)
        more: dict[str, Any] = {}
        if op.options is not None:
            more["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, op.options)
            more["BuiltinOptions"] = _Offset(self.table(op.options, **op.fields))
        inputs = [-1 if name == "-" else at[name] for name in op.inputs.split()]
        outputs = [at[name] for name in op.outputs.split()]
        return self.table(
            "Operator",
            OpcodeIndex=self.codes.index(op.op),
            Inputs=inputs,
            Outputs=outputs,
            CustomOptions=op.custom_options,
            **more,
        )

    def signature(
        self, graphs: Sequence[Graph], key: str, number: int, inputs: Mapping[str, str], outputs: Mapping[str, str]
    ) -> int:
        at = {name: i for i, name in enumerate(graphs[number].tensors)}
        maps = [
            self.tables([self.table("TensorMap", Name=name, TensorIndex=at[of]) for name, of in names.items()])
            for names in (inputs, outputs)
        ]
        return self.table("SignatureDef", Inputs=maps[0], Outputs=maps[1], SignatureKey=key, SubgraphIndex=number)


@dataclass
class _Offset:
    at: int


def _bytes(tensor: T) -> bytes:
    if tensor.dtype == "int4":
        flat = np.asarray(tensor.data, np.int8).reshape(-1)
        flat = np.append(flat, np.zeros(flat.size % 2, np.int8)).astype(np.uint8) & 15
        return (flat[::2] | flat[1::2] << 4).tobytes()
    return np.asarray(tensor.data, tensor.dtype).tobytes()


def one_op(
    op: str,
    inputs: Mapping[str, Any],
    output: Any,
    options: str | None = None,
    custom_options: bytes | None = None,
    **fields: Any,
) -> bytes:
    """Return a file with one operator.

    Args:
        inputs: arrays are constants, T inputs (or constants with more to say); None is left out.
        output: a T, or several of them.
    """
    tensors: dict[str, T] = {
        name: value if isinstance(value, T) else constant(value) for name, value in inputs.items() if value is not None
    }
    outputs = list(output) if isinstance(output, (list, tuple)) else [output]
    names = [f"y{i}" if i else "y" for i in range(len(outputs))]
    tensors.update(zip(names, outputs, strict=True))
    given = [name for name, tensor in tensors.items() if name in inputs and tensor.data is None and not tensor.variable]
    operator = Op(
        op,
        " ".join("-" if inputs[name] is None else name for name in inputs),
        " ".join(names),
        options,
        fields,
        custom_options,
    )
    return write(Graph(tensors, [operator], " ".join(given), " ".join(names)))


def litert(model: bytes, inputs: Sequence[Any], reference: bool = True) -> list[Any]:
    """Run a file in LiteRT, with its reference kernels or, of ops that have none and if asked for, with its own."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kind, num_threads=1)
    except ValueError as error:
        if not reference or "Didn't find op" not in str(error):
            raise
        return litert(model, inputs, reference=False)
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        if tuple(detail["shape"]) != array.shape:
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]


def run_signature(path: Path, feed: Mapping[str, Any], delegate: bool = True) -> dict[str, Any]:
    """Run the only signature of a file in LiteRT, as its users do (XNNPACK where it can), or by its own kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=kind)
    return dict(interpreter.get_signature_runner()(**feed))
