"""Bring a model into a form that is easy to walk: light, inlined, sorted, with types."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from ...conversion import InvalidModelError, Problems
from ...core.files import kind
from .bounded import Calls, Refused, Stopped
from .check import check_names, check_nodes, check_sizes
from .fix import Shape, fix_inputs
from .functions import inline_functions, rename_values
from .tensors import Tensor, inside

__all__ = ["Source", "Type", "data_files", "load", "names_read", "node_name", "read_model", "sorted_nodes"]

OLDEST, NEWEST = 7, 28  # opsets of the domain ""; before 11, ops whose meaning has changed since are refused
_SMALL = 1024  # elements of an initializer that shape inference may look at

# dtype and shape: an int, a name or None for each dim; None if the rank is not known
Type = tuple[int, tuple[int | str | None, ...] | None]


@dataclass
class Source:
    """A prepared model. ``model`` has small initializers only; ``tensors`` has all, and reads each when it is
    needed.
    """

    name: str
    model: ModelProto
    tensors: dict[str, Tensor]
    opsets: dict[str, int]
    types: dict[str, Type] = field(default_factory=dict)
    wrong: InvalidModelError | None = None  # what type inference reports; raised if nothing else is wrong
    # branches that never run since their condition is known, each with the one that does; the outermost first
    never_run: list[tuple[GraphProto, GraphProto]] = field(default_factory=list)

    @property
    def graph(self) -> GraphProto:
        return self.model.graph

    def forget_never_run(self) -> bool:
        """Infer types again with the branch that runs in place of each that never does.

        The others may contradict sizes that are fixed. Return whether there was a reason to: inference reported
        something, and there are such branches.
        """
        if self.wrong is None or not self.never_run:
            return False
        for i, (branch, taken) in enumerate(reversed(self.never_run)):
            branch.CopyFrom(taken)
            rename_values(branch, {}, f"never_run_{i}/")  # inference takes a name for one value
        self.never_run = []
        with Calls() as calls:
            self.types, self.wrong = _infer(self.model, calls)
        return True


def load(
    model: str | os.PathLike[str] | ModelProto,
    known: Callable[[str, int], bool],
    values: Mapping[str, Any],
    shapes: Mapping[str, Shape],
) -> Source:
    """Read, check and prepare a model. External data are not opened yet.

    ``known(op, opset)`` returns whether an op of the domain "" can be converted. Others are written in simpler ones, if
    ONNX defines how. ``values`` and ``shapes`` of inputs are fixed.
    """
    with Calls() as calls:
        return _load(model, known, values, shapes, calls)


def _load(
    model: str | os.PathLike[str] | ModelProto,
    known: Callable[[str, int], bool],
    values: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    calls: Calls,
) -> Source:
    if isinstance(model, ModelProto):
        light, folder = ModelProto(), None
        name = model.graph.name if isinstance(model.graph.name, str) and model.graph.name else "the model"
        light.CopyFrom(model)
    else:
        path = Path(model)
        name, folder = path.name, path.parent
        light = read_model(path)
    if not light.HasField("graph") or not light.opset_import:
        raise InvalidModelError(f"{name}: not an ONNX model, or an empty one")
    opsets = {("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in light.opset_import}
    opset = opsets.get("", OLDEST)
    if not OLDEST <= opset <= NEWEST:
        problems = Problems()
        problems.add(f"opset {opset}; expected {OLDEST} to {NEWEST}", name)
        problems.check(name)
    check_names(light.graph, name)
    check_sizes(light.graph, "")
    fix_inputs(light.graph, values, shapes)
    source = Source(name, light, {}, opsets)
    _take_tensors(source, folder)
    if light.functions:
        inline_functions(source.model, source.opsets)
        check_names(source.graph, name)
    check_nodes(source.graph, opsets)
    _expand(source, known, calls)
    _sort(source)
    source.types, source.wrong = _infer(source.model, calls)
    return source


def read_model(path: Path) -> ModelProto:
    """Parse a file, whatever its name ends in."""
    if path.is_char_device() or path.is_block_device():
        raise InvalidModelError(f"{path}: not an ONNX model, but a device")
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, ValueError) as error:
        other = "a .dynq file, which is made already: dynq run and dynq.load take it" if kind(path) == "dynq" else error
        raise InvalidModelError(f"{path}: not an ONNX model: {other}") from error
    return model


def data_files(path: Path) -> list[Path]:
    """Return the files with external data that are there, in the folder of a model's file."""
    names = {
        str(entry.value)
        for tensor in read_model(path).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location" and tensor.data_location == TensorProto.EXTERNAL
    }
    files = []
    for name in sorted(names):
        try:
            files.append(inside(path.parent, name, path.name))
        except InvalidModelError:  # a tensor that nothing reads is wrong
            continue
    return [file for file in files if file.is_file()]


def node_name(node: NodeProto, index: int) -> str:
    """Return the node's own name, or one made from its op and its place."""
    return str(node.name) or f"{node.op_type}_{index}"


def sorted_nodes(graph: GraphProto, known: set[str], where: str) -> list[tuple[str, NodeProto]]:
    """Return the nodes with their names, in an order in which they can run; ``known`` are values from outside."""
    nodes = [(node_name(node, i), node) for i, node in enumerate(graph.node)]
    producer: dict[str, int] = {}
    for i, (name, node) in enumerate(nodes):
        for output in node.output:
            if output and (output in producer or output in known):
                raise InvalidModelError(f"{where}: node {name!r} computes {output!r}, which is there already")
            if output:
                producer[output] = i
    order: list[int] = []
    state = [0] * len(nodes)  # 1: on the way down, 2: done
    for root in range(len(nodes)):
        if state[root]:
            continue
        state[root] = 1
        stack: list[tuple[int, Iterator[str]]] = [(root, iter(_reads(nodes[root][1])))]
        while stack:
            at, rest = stack[-1]
            for value in rest:
                if value in producer:
                    before = producer[value]
                    if state[before] == 1:
                        path = [i for i, _ in stack]
                        cycle = " -> ".join(repr(nodes[i][0]) for i in [*path[path.index(before) :], before])
                        raise InvalidModelError(f"{where} has a cycle of nodes, each of which reads the next: {cycle}")
                    if state[before] == 0:
                        state[before] = 1
                        stack.append((before, iter(_reads(nodes[before][1]))))
                        break
                elif value not in known:
                    raise InvalidModelError(
                        f"{where}: node {nodes[at][0]!r} ({nodes[at][1].op_type}) reads {value!r}, "
                        f"which is no input, no initializer and no output of a node"
                    )
            else:
                state[at] = 2
                order.append(at)
                stack.pop()
    return [nodes[i] for i in order]


def _reads(node: NodeProto) -> list[str]:
    """Return the names that a node reads, those of its subgraphs included."""
    result = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own.update(output for inner in graph.node for output in inner.output)
            result += [name for inner in graph.node for name in _reads(inner) if name not in own]
            result += [value.name for value in graph.output if value.name not in own]
    return result


def _sort(source: Source) -> None:
    """Bring the nodes into an order in which they can run. Each has a name then."""
    graph = source.graph
    known = {value.name for value in graph.input} | source.tensors.keys()
    nodes = []
    for name, node in sorted_nodes(graph, known, source.name):
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = name
        nodes.append(copy)
    del graph.node[:]
    graph.node.extend(nodes)


def names_read(graph: GraphProto) -> set[str]:
    """Return the names that something reads, at any depth, and those of outputs."""
    result = {value.name for value in graph.output}
    for node in graph.node:
        result.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                result |= names_read(attribute.g)
    return result - {""}


def _take_tensors(source: Source, folder: Path | None) -> None:
    """Move the initializers out of the model, copy small ones, and note the folder of external data."""
    graph = source.graph
    if len(graph.sparse_initializer):
        names = ", ".join(repr(sparse.values.name) for sparse in graph.sparse_initializer)
        raise InvalidModelError(f"{source.name} has sparse initializers, which dynq does not support: {names}")
    inputs = {value.name for value in graph.input}
    light: list[TensorProto] = []
    for proto in graph.initializer:
        if proto.name in source.tensors:
            raise InvalidModelError(f"{source.name}: two initializers have the name {proto.name!r}")
        own = TensorProto()
        own.CopyFrom(proto)
        tensor = Tensor(own, f"initializer {proto.name!r}", folder)
        source.tensors[proto.name] = tensor
        if tensor.count <= _SMALL and proto.data_location != TensorProto.EXTERNAL:
            light.append(own)
        elif proto.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(proto.name, tensor.kind, tensor.shape))
        proto.Clear()
    del graph.initializer[:]
    graph.initializer.extend(light)
    for constant in graph.node:
        for attribute in constant.attribute if constant.op_type == "Constant" else []:
            if attribute.HasField("t"):
                Tensor(attribute.t, f"constant {constant.output[0]!r}", None)
    source.model.graph.ClearField("value_info")  # often wrong: inferred anew


def _expand(source: Source, known: Callable[[str, int], bool], calls: Calls) -> None:
    """Put the bodies that ONNX itself defines for some ops in place of those that dynq does not have."""
    opset = source.opsets.get("", OLDEST)
    tried: set[str] = set()
    while True:
        ops = {str(node.op_type) for node in source.graph.node if node.domain in ("", "ai.onnx")}
        ops = {op for op in ops - tried if not known(op, opset) and _has_body(op, opset)}
        if not ops:
            return
        tried |= ops
        for node in source.graph.node:
            if node.op_type in ops and node.domain in ("", "ai.onnx"):
                _set_defaults(node, opset)
        try:
            source.model = _called(
                calls, "inliner.inline_selected_functions2", _typed(source), [("", op) for op in sorted(ops)], False
            )
            del source.model.graph.value_info[:]
        except (Refused, Stopped):  # an older onnx, or a body that it cannot make: the op is refused as it is
            return


def _typed(source: Source) -> ModelProto:
    """Return the model with the types of its initializers, and one for inputs that are left out, whose name is empty.

    The inliner wants types of all inputs of an op whose body depends on types. That of the empty name tells it nothing.
    """
    model = ModelProto()
    model.CopyFrom(source.model)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("", TensorProto.FLOAT, []))
    for proto in model.graph.initializer:
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(proto.name, proto.data_type, proto.dims))
    return model


def _called(calls: Calls, function: str, model: ModelProto, *arguments: Any) -> ModelProto:
    """Call a function of ONNX's C++ part that turns a model into another."""
    result = ModelProto()
    try:
        result.ParseFromString(calls.call(function, model.SerializeToString(), *arguments))
    except (DecodeError, ValueError) as error:  # protobuf has a limit on what it reads and writes
        raise Refused(str(error)) from error
    return result


def _has_body(op: str, opset: int) -> bool:
    try:
        schema: Any = onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _set_defaults(node: NodeProto, opset: int) -> None:
    """Write the defaults of attributes out, since the bodies of ops have none."""
    schema: Any = onnx.defs.get_schema(str(node.op_type), opset)
    there = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in there and attribute.default_value.name:
            node.attribute.append(attribute.default_value)


def _infer(model: ModelProto, calls: Calls) -> tuple[dict[str, Type], InvalidModelError | None]:
    """Return the types of all values. With them, ONNX's own inference checks the dtypes and shapes of each node."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(copy.ir_version, 4)  # before, ONNX knows no type of an initializer that is no input, too
    for output in copy.graph.output:  # what exporters write here is often wrong
        output.ClearField("type")
    wrong = None
    try:
        inferred = _inferred(calls, copy, True)
    except Refused as error:
        wrong = InvalidModelError(f"{model.graph.name}: {error}")
        try:
            inferred = _inferred(calls, copy, False)
        except Refused:
            return {}, wrong
    graph = inferred.graph
    types = {value.name: _type(value.type) for value in (*graph.input, *graph.value_info, *graph.output)}
    return {name: kind for name, kind in types.items() if kind is not None}, wrong


def _inferred(calls: Calls, model: ModelProto, strict: bool) -> ModelProto:
    """Infer the types of a model. If that takes too much, do not follow values that sizes are computed from."""
    infer = "shape_inference.infer_shapes"
    try:
        return _called(calls, infer, model, strict, strict, True)
    except Stopped:
        try:
            return _called(calls, infer, model, strict, strict, False)
        except Stopped as error:
            raise InvalidModelError(f"{model.graph.name or 'the model'}: ONNX's shape inference {error}") from error


def _type(proto: Any) -> Type | None:
    if not proto.HasField("tensor_type"):
        return None
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return int(tensor.elem_type), None
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        name = dim.dim_param if dim.HasField("dim_param") else None
        dims.append(int(dim.dim_value) if dim.HasField("dim_value") else name or None)
    return int(tensor.elem_type), tuple(dims)
