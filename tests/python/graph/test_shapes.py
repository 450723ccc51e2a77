"""Shapes and dtypes that a graph tells are those that the runtime computes."""

from typing import Any

import pytest

from dynq.ir import ops
from dynq.ir.dims import product, quotient
from dynq.ir.shapes import _RULES
from dynq.model import Model
from dynq.plan.write import write_image
from tests.python.references.op_cases import CASES, graph_of


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "attributes"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_what_is_told_is_what_comes(op: str, inputs: list[Any], outputs: int, attributes: dict[str, Any]) -> None:
    graph, results, feed = graph_of(op, inputs, outputs, attributes)
    given = Model._from_image(write_image(graph, {}))(*feed.values())
    for value, array in zip(results, given if outputs > 1 else [given], strict=True):
        depends_on_values = op in ("NonZero", "Compress", "Unique", "NonMaxSuppression")
        assert value.shape is not None and len(value.shape) == array.ndim
        assert all(a == b or (a is None and depends_on_values) for a, b in zip(value.shape, array.shape, strict=True))
        assert value.dtype in (None, array.dtype.name)


def test_every_rule_is_tried() -> None:
    elsewhere = {"dynq.If", "dynq.Loop", "dynq.CachedAttention", "dynq.Positions"}  # tests of bodies and of states
    assert {op for op in _RULES if op in ops.names()} - elsewhere <= {case[0] for case in CASES}


def test_sizes_are_products_of_numbers_and_names() -> None:
    assert product(["time", 4, "batch"]) == "4 * batch * time" and product([2, "4 * batch"]) == "8 * batch"
    assert product([0, "batch"]) == 0 and product([3, None]) is None and product([]) == 1
    assert quotient(["4 * batch", 6], ["batch", 8]) == 3 and quotient(["batch", 4], [8]) is None
    assert quotient([8], ["batch"]) is None and quotient(["batch"], [0]) is None
