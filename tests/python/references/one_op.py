"""One op on arrays, through a file of that op alone: no pass touches it."""

from typing import Any

import numpy as np

from dynq.ir.graph import Graph
from dynq.model import Model
from dynq.plan.write import write_image

Array = np.ndarray[Any, Any]


def run_op(op: str, *inputs: Any, outputs: int = 1, constants: tuple[int, ...] = (), **attributes: Any) -> Any:
    """The output of ``op``, or a tuple of them where ``outputs`` is over 1.

    Args:
        inputs: arrays, None for one that is left out, QuantizedWeight for packed weights.
        constants: inputs that are constants of the model (the shape of a Reshape, axes); the others come when it runs.
    """
    return one_op(op, *inputs, outputs=outputs, constants=constants, **attributes)(
        *(value for i, value in enumerate(inputs) if isinstance(value, np.ndarray) and i not in constants)
    )


def one_op(op: str, *inputs: Any, outputs: int = 1, constants: tuple[int, ...] = (), **attributes: Any) -> Model:
    """The model of one op for inputs of these shapes."""
    graph = Graph()
    values: list[Any] = []
    for i, value in enumerate(inputs):
        if isinstance(value, np.ndarray) and i not in constants:
            value = graph.input(f"input_{i}", value.shape, value.dtype)
        values.append(value)
    result = graph.node(op, values, outputs, **attributes)
    for value in result if isinstance(result, tuple) else (result,):
        graph.output(value)
    return Model._from_image(write_image(graph, {}))
