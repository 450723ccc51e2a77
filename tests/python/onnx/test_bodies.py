"""Ops that dynq does not have, by the bodies that ONNX gives for them: scales, tables and masks may be initializers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import dynq

RNG = np.random.default_rng(1)
Q = RNG.standard_normal((2, 3, 5, 8), np.float32)
TABLES = {"cos": RNG.standard_normal((16, 4), np.float32), "sin": RNG.standard_normal((16, 4), np.float32)}
PLACES = {"places": RNG.integers(0, 16, (2, 5))}
LEFT_OUT: dict[str, Any] = {"mask": None, "past": None, "values": None}
MASK = {"mask": np.tril(np.ones((5, 5), np.bool_))}


def body_model(
    op: str, opset: int, given: dict[str, Any], constants: dict[str, Any], before: bool, **attributes: Any
) -> Any:
    """A model of one node; ``before``: its first input is what another node computes. A constant None is left out."""
    first, *names = given
    names += ["" if array is None else name for name, array in constants.items()]
    nodes = [helper.make_node(op, [f"{first}_" if before else first, *names], ["y"], "node", **attributes)]
    if before:
        nodes.insert(0, helper.make_node("Neg", [first], [f"{first}_"], "neg"))
    kind = helper.np_dtype_to_tensor_dtype
    inputs = [helper.make_tensor_value_info(name, kind(x.dtype), x.shape) for name, x in given.items()]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items() if array is not None]
    output = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(nodes, "bodies", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("op", "opset", "given", "constants", "attributes"),
    [
        ("RotaryEmbedding", 23, {"q": Q}, {**TABLES, **PLACES}, {}),
        ("RotaryEmbedding", 23, {"q": Q, **TABLES}, PLACES, {"interleaved": 1}),
        ("Attention", 23, {"q": Q, "k": Q[:, ::-1].copy(), "v": Q}, MASK, {}),
        ("Attention", 23, {"q": Q, "k": Q, "v": Q}, {}, {"is_causal": 1}),
        ("Attention", 24, {"q": Q, "k": Q, "v": Q}, {**LEFT_OUT, "lengths": np.array([3, 5])}, {"is_causal": 1}),
        (
            "Attention",
            24,
            {"q": Q, "k": Q, "v": Q},
            {**MASK, "past": None, "values": None, "lengths": np.array([4, 2])},
            {},
        ),
        ("MeanVarianceNormalization", 13, {"x": Q}, {}, {"axes": [0, 2, 3]}),
    ],
)
def test_a_body_is_the_op(
    op: str, opset: int, given: dict[str, Any], constants: dict[str, Any], attributes: dict[str, Any], before: bool
) -> None:
    proto = body_model(op, opset, given, constants, before, **attributes)
    model = dynq.from_onnx(proto, quantize=False)
    (expected,) = ReferenceEvaluator(proto).run(None, given)
    np.testing.assert_allclose(model.run(given)["y"], expected, rtol=2e-4, atol=2e-5)
