"""Small models behind modules: the bytes of a ``.dynq`` file in a tensor, opened where it lies.

Their graphs are written in dynq's own ops, with weights that are quantized already: no pass changes a bit of them, so a
``state_dict`` that goes through int8 and back gives the same model.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import UINT8, Array
from ..graph import Graph
from ..ir import graph as ir
from ..model import Model
from ..plan.read import read_graph
from ..plan.write import write_image
from ..weights import QuantizedWeight
from ._threads import torch_threads

__all__ = ["constants", "image_graph", "make_image", "run_model"]

_models: dict[int, tuple[weakref.ref[Tensor], int, Model]] = {}  # by address


def make_image(graph: Graph) -> Tensor:
    """Return a model file, uint8 (bytes,), aligned as dynq maps it."""
    image = write_image(graph, {"name": graph.name, "outputs": "[]", "report": "[]"})
    result = torch.empty(image.size, dtype=torch.uint8)
    result.numpy()[:] = image
    return result


def image_graph(image: Tensor) -> ir.Graph:
    """Return the graph of a model, whose constants are views."""
    return read_graph(_bytes(image))


def constants(image: Tensor) -> dict[str, Array | QuantizedWeight]:
    """Return the constants of a model by their names: views."""
    return {value.name: value.constant for value in image_graph(image).constants()}  # type: ignore[misc]


def run_model(image: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Outputs of the model for ``inputs`` in its order, on at most torch.get_num_threads() threads."""
    model = _open(image)
    arrays = [x.detach().numpy() for x in inputs]
    with torch_threads():
        outputs = model._run(arrays, False)
    return [torch.from_numpy(y) for y in outputs]


def _open(image: Tensor) -> Model:
    address = image.data_ptr()
    version = -1 if image.is_inference() else image._version
    known = _models.get(address)
    if known is not None and known[0]() is image and known[1] == version:
        return known[2]
    model = Model._from_image(_bytes(image))
    reference = weakref.ref(image, lambda gone: _forget(address, gone))
    _models[address] = (reference, version, model)
    return model


def _forget(address: int, gone: Any) -> None:
    known = _models.get(address)
    if known is not None and known[0] is gone:
        del _models[address]


class _Memory:
    """The memory of a tensor. This object does not keep it alive: the caller that runs a model holds its tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.__array_interface__ = {
            "version": 3, "shape": (tensor.numel(),), "typestr": "|u1", "data": (tensor.data_ptr(), True)
        }  # fmt: skip


def _bytes(image: Tensor) -> Array:
    if image.dtype != torch.uint8 or image.dim() != 1 or not image.is_contiguous() or image.device.type != "cpu":
        raise ValueError(f"image is {image.dtype} {tuple(image.shape)} on {image.device}; expected uint8 on the CPU")
    return np.asarray(_Memory(image), UINT8)
