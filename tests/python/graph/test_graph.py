"""dynq.Graph: names, constants, errors that name what is wrong, printing."""

from typing import Any

import numpy as np
import pytest

import dynq
from dynq.graph import Graph, Value
from tests.python.references.evaluate import evaluate


def small() -> tuple[Graph, Value]:
    g = Graph("small")
    x = g.input("x", ("batch", 3))
    return g, x


def test_a_graph_prints_a_line_for_each_node() -> None:
    g, x = small()
    y = g.linear(x, np.ones((4, 3), np.float32), np.zeros(4, np.float32), activation="relu", name="fc")
    g.output(g.softmax(y, name="p"), "probabilities")
    assert str(g).splitlines() == [
        "graph small",
        "  x: float32 (batch, 3)  # input",
        "  fc: float32 (batch, 4) = dynq.Linear(x, fc.weight: float32 (4, 3), [0.0, 0.0, 0.0, 0.0], activation='relu')",
        "  p: float32 (batch, 4) = Softmax(fc, axis=-1)",
        "  return probabilities=p",
    ]


def test_dot_has_the_nodes_the_edges_and_quotes_what_needs_it() -> None:
    g, x = small()
    g.output(g.relu(x, name='a "b"'))
    dot = g.to_dot()
    assert dot.startswith('digraph "small" {') and dot.endswith("}")
    assert r'"node a \"b\""' in dot and '"value x" -> "node a' in dot and '-> "output a' in dot


def test_operators_give_what_numpy_gives() -> None:
    g, x = small()
    y = (2 * x + 1 - x / 4) * x - (1 - x)
    g.output(-y, "y")
    data = np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32)
    d = data.astype(np.float64)
    np.testing.assert_allclose(evaluate(g, {"x": data})["y"], -((2 * d + 1 - d / 4) * d - (1 - d)))


@pytest.mark.parametrize(
    "key",
    [
        (0,), (-1,), (slice(None), 1), (slice(1, None),), (slice(None, None, 2),), (slice(None, None, -1),),
        (Ellipsis, -2), (0, Ellipsis, None), (None, slice(0, 1)), (slice(-2, None), slice(0, 2)), (slice(None),),
    ],
    ids=str,
)  # fmt: skip
def test_items_are_those_of_numpy(key: Any) -> None:
    g = Graph()
    x = g.input("x", (3, 4, 5))
    g.output(x[key], "y")
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    result = evaluate(g, {"x": data})["y"]
    np.testing.assert_array_equal(result, data[key])
    assert g.outputs[0][1].shape == result.shape


def test_a_value_cannot_be_iterated_over() -> None:
    _, x = small()
    with pytest.raises(TypeError, match=r"split\(\)"):
        list(x)


def test_a_number_takes_the_dtype_of_its_neighbour() -> None:
    g = Graph()
    ids = g.input("ids", (3,), "int64")
    assert (ids + 1).producer.inputs[1].dtype == "int64"  # type: ignore[union-attr]
    x = g.input("x", (3,))
    assert (x + 1).producer.inputs[1].dtype == "float32"  # type: ignore[union-attr]
    assert g.constant([1.5, 2]).dtype == "float32"
    assert g.constant([1, 2]).dtype == "int64"
    assert g.constant(np.float16([1])).dtype == "float32"


def test_what_a_constant_cannot_be() -> None:
    g = Graph()
    with pytest.raises(TypeError, match="constant has dtype float64; expected one of float32"):
        g.constant(np.ones(3))
    with pytest.raises(ValueError, match="not an array"):
        g.constant([[1], [2, 3]])
    with pytest.raises(ValueError, match="9 dimensions"):
        g.constant(np.ones([1] * 9, np.float32))


def test_what_an_input_cannot_be() -> None:
    g, _ = small()
    with pytest.raises(ValueError, match="two values would have the name 'x'"):
        g.input("x", (1,))
    with pytest.raises(ValueError, match=r"input 'y' has shape \(-1,\)"):
        g.input("y", (-1,))
    with pytest.raises(ValueError, match=r"input 'y' has shape \(None,\)"):
        g.input("y", (None,))
    with pytest.raises(TypeError, match="input 'y' has dtype float64"):
        g.input("y", (1,), "float64")


def test_what_linear_refuses() -> None:
    g, x = small()
    with pytest.raises(ValueError, match=r"x has shape \('batch', 3\); expected \(\.\.\., 4\)"):
        g.linear(x, np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"bias has shape \(3,\); expected \(2,\)"):
        g.linear(x, np.ones((2, 3), np.float32), np.ones(3, np.float32))
    with pytest.raises(ValueError, match="activation is 'swish'"):
        g.linear(x, np.ones((2, 3), np.float32), activation="swish")
    with pytest.raises(ValueError, match="expected a constant"):
        g.linear(x, x)


def test_an_attribute_of_no_known_kind_is_refused() -> None:
    g, x = small()
    with pytest.raises(TypeError, match="node 'n': attribute axis is"):
        g.node("Softmax", [x], name="n", axis={})


def test_validate_names_the_cycle() -> None:
    g, x = small()
    a = g.relu(x, name="a")
    b = g.relu(a, name="b")
    g.output(b)
    assert a.producer is not None
    a.producer.inputs[0] = b
    with pytest.raises(ValueError, match=r"cycle.*'a' -> 'b' -> 'a'|cycle.*'b' -> 'a' -> 'b'"):
        g.validate()


def test_validate_names_the_node_that_reads_what_is_missing() -> None:
    g, x = small()
    y = g.relu(g.tanh(x, name="lost"), name="reader")
    g.output(y)
    g.nodes.pop(0)
    with pytest.raises(ValueError, match=r"node 'reader' \(Relu\): input 0, 'lost', is of no node"):
        g.validate()


def test_validate_wants_outputs_and_one_name_each() -> None:
    g, x = small()
    with pytest.raises(ValueError, match="no outputs"):
        g.validate()
    g.output(x, "y")
    g.output(g.relu(x), "y")
    with pytest.raises(ValueError, match="two outputs have the name 'y'"):
        g.validate()


def test_values_of_another_graph_are_refused() -> None:
    g, x = small()
    _, z = small()
    with pytest.raises(ValueError, match="value 'x' is of another graph"):
        g.add(x, z)
    with pytest.raises(ValueError, match="is not a value of this graph"):
        g.build(z)


def test_nodes_are_sorted_as_they_can_run() -> None:
    g, x = small()
    g.output(g.relu(g.tanh(x, name="first"), name="second"))
    g.nodes.reverse()
    g.validate()
    assert [node.name for node in g.nodes] == ["first", "second"]


def test_building_leaves_the_graph_as_it_was() -> None:
    g, x = small()
    h = g.linear(x, np.eye(3, dtype=np.float32), name="a")
    y = g.relu(g.linear(h, np.eye(3, dtype=np.float32), name="b"))
    before = str(g)
    model = g.build({"y": y})
    assert str(g) == before and not g.outputs
    data = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model(data), g.build({"y": y})(data))


def test_keep_float_names_what_exists() -> None:
    g, x = small()
    y = g.linear(x, np.eye(3, dtype=np.float32), name="a")
    with pytest.raises(ValueError, match=r"keep_float has 'b\.\*', which is no node that is left"):
        g.build(y, keep_float=["a", "b.*"])


def test_a_weight_that_is_not_finite_names_its_node() -> None:
    g, x = small()
    y = g.linear(x, np.full((2, 3), np.nan, np.float32), name="bad")
    with pytest.raises(dynq.NonFiniteError, match="node 'bad'"):
        g.build(y)


def test_an_op_that_does_not_exist_names_its_node() -> None:
    g, x = small()
    with pytest.raises(ValueError, match="dynq does not have the ops of node 'a': Nope"):
        g.build(g.node("Nope", [x], name="a"))


def test_an_attribute_that_an_op_does_not_have_names_its_node() -> None:
    g, x = small()
    with pytest.raises(ValueError, match=r"^node 'p': Softmax: attribute 'nope'") as error:
        g.build(g.node("Softmax", [x], name="p", nope=1))
    assert not isinstance(error.value, dynq.FileFormatError)


def test_inputs_of_a_node_are_found_and_set_by_their_names_in_the_table_of_ops() -> None:
    g = Graph()
    x, low = g.input("x", (2,)), g.constant(np.float32(0))
    node = g.node("Clip", [x, low]).producer
    assert node is not None and node.first is x and node.need("input") is x
    assert node.array("min") is low.array and node.array("input") is None
    assert node.input("max") is None and node.array("max") is None
    node.set_input("min", None)
    assert node.inputs == [x]
    node.set_input("max", low)
    assert node.inputs == [x, None, low]
    with pytest.raises(KeyError, match="Clip has no input 'lowest'; it has input, min, max"):
        node.input("lowest")
