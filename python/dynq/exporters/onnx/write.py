"""The file of a draft: checked, and under its name when it is complete."""

from __future__ import annotations

import os
import tempfile

import onnx
from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto, helper, shape_inference

from ..._call import library_version
from ...graph import Graph
from ...graph.shapes import infer_all
from ...importers.errors import Unsupported
from .draft import Draft, Site
from .layers import same
from .table import WRITERS, absorbed

__all__ = ["draft", "write"]

_MOST_INSIDE = 1_900_000_000  # bytes of constants; a file of protobuf has 2 GiB at most
_SMALL = 1024  # bytes; smaller constants stay in the model, where inference sees them
_ALIGNMENT = 64


def draft(graph: Graph, form: str, granularity: str | None) -> Draft:
    """All nodes; ``problems`` of the result has those that cannot be written."""
    infer_all(graph)
    result = Draft(graph, granularity, form)
    left_out = absorbed(graph)
    for node in graph.nodes:
        if node in left_out:
            continue
        try:
            WRITERS.get(node.op, same)(Site(result, node))
        except Unsupported as error:
            result.problems.add(str(error), node.name)
            result.give_up(node)
    return result


def write(made: Draft, path: str, external: bool | None) -> None:
    """Writes what ``draft`` gave."""
    graph = made.finish()
    constants = list(made.constants.values())
    size = sum(constant.nbytes for constant in constants)
    apart = size > _MOST_INSIDE if external is None else external
    opset = helper.make_opsetid("", made.opset)
    model = helper.make_model(
        graph, opset_imports=[opset], producer_name="dynq", producer_version=library_version(),
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
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dynq-") as temporary:
        inside = os.path.join(temporary, os.path.basename(path))
        names = [inside]
        large = [(t, c) for t, c in zip(model.graph.initializer, constants, strict=True) if c.nbytes >= _SMALL]
        if apart and large:
            names.insert(0, inside + ".data")
            with open(names[0], "wb") as file:
                for _, constant in large:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    file.write(constant.data())
        else:
            for tensor, constant in large:
                del tensor.external_data[:]
                tensor.data_location = TensorProto.DEFAULT
                tensor.raw_data = constant.data()
        with open(inside, "wb") as file:
            file.write(model.SerializeToString())
        onnx.checker.check_model(inside, full_check=True)
        for name in names:
            os.replace(name, os.path.join(folder, os.path.basename(name)))


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.append(StringStringEntryProto(key=key, value=value))


def _set_types(model: ModelProto) -> None:
    """Types of the outputs, as ONNX infers them; constants that lie elsewhere need not be read."""
    inferred: GraphProto = shape_inference.infer_shapes(model, data_prop=True).graph
    types = {value.name: value.type for value in (*inferred.value_info, *inferred.output)}
    for output in model.graph.output:
        output.type.CopyFrom(types[output.name])
