"""Write the file of a draft. It is checked, and appears under its name when it is complete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto, helper, shape_inference

from ...conversion import Unsupported
from ...core import files
from ...core.call import library_version
from ...ir.graph import Graph
from ...ir.shapes import infer_all
from .draft import OWN_DOMAIN, Draft, Site
from .layer import layer, runs_as_layer
from .layers import same
from .table import WRITERS, absorbed

__all__ = ["draft", "write"]

_MOST_INSIDE = 1_900_000_000  # bytes of constants; a file of protobuf has 2 GiB at most
_SMALL = 1024  # bytes; smaller constants stay in the model, where inference sees them
_ALIGNMENT = 64


def draft(graph: Graph, form: str, granularity: str | None) -> Draft:
    """Return a draft of all nodes; its ``problems`` has those that cannot be written."""
    infer_all(graph)
    result = Draft(graph, granularity, form)
    own = {node for node in graph.nodes if form == "dynq" and runs_as_layer(node)}
    left_out = absorbed(graph, own)
    for node in graph.nodes:
        if node in left_out:
            continue
        try:
            write_node = layer if node in own else WRITERS.get(node.op, same)
            write_node(Site(result, node))
        except Unsupported as error:
            result.problems.add(str(error), node.name)
            result.give_up(node)
    return result


def write(made: Draft, path: str, external: bool | None) -> None:
    """Write the file of a draft."""
    graph = made.finish()
    constants = list(made.constants.values())
    size = sum(constant.nbytes for constant in constants)
    apart = size > _MOST_INSIDE if external is None else external
    opset = helper.make_opsetid("", made.opset)
    own = [helper.make_opsetid(OWN_DOMAIN, 1)] if made.has_own_ops else []
    model = helper.make_model(
        graph, opset_imports=[opset, *own], producer_name="dynq", producer_version=library_version(),
        ir_version=helper.find_min_ir_version_for([opset]),
    )  # fmt: skip
    location = os.path.basename(path) + ".data"
    at = 0
    for constant in constants:
        tensor = constant.proto()
        if constant.nbytes < _SMALL:
            tensor.raw_data = constant.data()
        else:
            at = -(-at // _ALIGNMENT) * _ALIGNMENT
            _refer(tensor, location, at, constant.nbytes)
            at += constant.nbytes
        model.graph.initializer.append(tensor)
    _set_types(model)
    large = [(t, c) for t, c in zip(model.graph.initializer, constants, strict=True) if c.nbytes >= _SMALL]
    if not apart or not large:
        for tensor, constant in large:
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = constant.data()
        content = model.SerializeToString()
        onnx.checker.check_model(content, full_check=True)
        files.write(path, [content])
        return
    content = model.SerializeToString()
    _check(content, location, at)
    with files.replacing(path) as file:
        file.write(content)
        file.flush()
        files.write(f"{path}.data", _aligned([constant for _, constant in large]))


def _check(content: bytes, location: str, size: int) -> None:
    """Let ONNX check a model whose data will lie in another file. The checker asks only whether that file is there."""
    with tempfile.TemporaryDirectory(prefix="dynq-") as folder:
        with open(os.path.join(folder, location), "wb") as data:
            data.truncate(size)
        model = os.path.join(folder, "model.onnx")
        with open(model, "wb") as file:
            file.write(content)
        onnx.checker.check_model(model, full_check=True)


def _aligned(constants: list[Any]) -> Iterator[bytes]:
    """Yield the data of constants, each from a multiple of 64 bytes on."""
    at = 0
    for constant in constants:
        yield b"\0" * (-at % _ALIGNMENT)
        yield constant.data()
        at = -(-at // _ALIGNMENT) * _ALIGNMENT + constant.nbytes


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.append(StringStringEntryProto(key=key, value=value))


def _set_types(model: ModelProto) -> None:
    """Set the types of the outputs, as ONNX infers them. Constants that lie elsewhere need not be read."""
    inferred: GraphProto = shape_inference.infer_shapes(model, data_prop=True).graph
    types = {value.name: value.type for value in (*inferred.value_info, *inferred.output)}
    for output in model.graph.output:
        if not output.HasField("type"):
            output.type.CopyFrom(types[output.name])
