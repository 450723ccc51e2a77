"""Import of TensorFlow Lite: constants in every form, subgraphs, signatures, and what is refused."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from dynq.importers.tflite import to_graph
from tests.python.references.tflite_models import Graph, Op, T, constant, one_op, write

tflite = pytest.importorskip("tflite")
F = np.float32
ADD = ("AddOptions", {"FusedActivationFunction": 0})


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, F)


def run(model: bytes, *inputs: np.ndarray, **options: Any) -> list[np.ndarray]:
    built = dynq.from_tflite(model, **{"quantize": False, **options})
    return list(built.run(dict(zip((value.name for value in built.inputs), inputs, strict=True))).values())


def dense(weight: T, x: np.ndarray, *before: Op, **more: T) -> bytes:
    """Return a file with a fully connected layer; ``before`` makes its weight ``w``."""
    tensors = {"x": T(x.shape), "w": weight, "y": T(()), **more}
    op = Op("FULLY_CONNECTED", "x w -", "y", "FullyConnectedOptions")
    return write(Graph(tensors, [*before, op], "x", "y"))


def test_a_file_is_a_path_or_bytes(tmp_path: Path) -> None:
    model = one_op("ADD", {"x": T((2, 3)), "k": normal(3)}, T(()), *ADD[:1])
    (tmp_path / "m.tflite").write_bytes(model)
    x = normal(2, 3)
    for source in (model, tmp_path / "m.tflite", os.fspath(tmp_path / "m.tflite")):
        np.testing.assert_array_equal(dynq.from_tflite(source).run({"x": x})["y"], x + normal(3))
    with pytest.raises(TypeError, match="expected a path or bytes"):
        dynq.from_tflite(3)  # type: ignore[arg-type]


def test_float16_weights_behind_dequantize_are_their_floats() -> None:
    w, x = normal(5, 4).astype(np.float16), normal(3, 4)
    model = dense(T(w.shape), x, Op("DEQUANTIZE", "half", "w"), half=constant(w))
    np.testing.assert_allclose(run(model, x)[0], x @ w.astype(F).T, rtol=1e-5)
    assert "Cast" not in [op for _, op in dynq.from_tflite(model, quantize=False).nodes]


def test_a_weight_that_several_operators_read_is_kept_once() -> None:
    w = T((64, 64), "int8", np.arange(4096).reshape(64, 64) % 251 - 125, scale=np.full(64, 0.01))
    options = "FullyConnectedOptions"
    tensors = {"x": T((2, 64)), "w": w, "h": T((2, 64)), "y": T((2, 64))}
    ops = [Op("FULLY_CONNECTED", "x w -", "h", options), Op("FULLY_CONNECTED", "h w -", "y", options)]
    built = dynq.from_tflite(write(Graph(tensors, ops, "x", "y")), first_layer="int8")
    assert len([v for v in built.graph().constants() if isinstance(v.constant, dynq.QuantizedWeight)]) == 1


def test_sparse_weights_are_expanded() -> None:
    """Rows are dense, columns are compressed; then blocks of 2 rows and 2 columns, each dense."""
    w = np.zeros((4, 6), F)
    w[0, 1], w[2, 0], w[2, 5] = 1.5, -2, 3
    levels = [4, ([0, 1, 1, 3, 3], [1, 0, 5])]
    sparse = T(w.shape, "float32", w[w != 0], sparsity=([0, 1], [], levels))
    x = normal(3, 6)
    model = dense(T(w.shape), x, Op("DENSIFY", "sparse", "w"), sparse=sparse)
    np.testing.assert_allclose(run(model, x)[0], x @ w.T, rtol=1e-5)
    w = np.zeros((4, 6), F)
    w[0:2, 2:4], w[2:4, 4:6] = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
    blocks = T(w.shape, "float32", np.arange(1, 9), sparsity=([0, 1, 2, 3], [0, 1], [2, ([0, 1, 2], [1, 2]), 2, 2]))
    np.testing.assert_allclose(run(dense(blocks, x), x)[0], x @ w.T, rtol=1e-5)


@pytest.mark.parametrize(
    "levels",
    [
        [4, ([0, 1, 1, 3], [1, 0, 5])],
        [4, ([0, 1, 1, 3, 3], [1, 0, 6])],
        [3, ([0, 1, 1, 3], [1, 0, 5])],
        [4, ([0, 2, 1, 3, 3], [1, 0, 5])],
        [4, 6],
        [4, ([0, 1, 1, 3, 3], [1, 0])],
    ],
)
def test_sparse_weights_that_contradict_themselves_are_an_error(levels: Any) -> None:
    sparse = T((4, 6), "float32", np.ones(3), sparsity=([0, 1], [], levels))
    with pytest.raises(dynq.InvalidModelError, match="damaged"):
        to_graph(dense(sparse, normal(3, 6)))


@pytest.mark.parametrize("per_channel", [False, True])
def test_int8_weights_keep_their_integers(per_channel: bool) -> None:
    """A dynamic-range layer: the integers and scales of the file are those of dynq's weight."""
    q = np.random.default_rng(1).integers(-90, 91, (5, 8)).astype(np.int8)
    scale = np.linspace(0.01, 0.05, 5).astype(F) if per_channel else np.array([0.02], F)
    x = normal(3, 8)
    model = dynq.from_tflite(dense(T(q.shape, "int8", q, scale=scale), x))
    (row,) = model.report().rows
    assert row.quantized and row.why == "its weight is int8"
    weight = dynq.QuantizedWeight.from_integers(q, np.broadcast_to(scale, 5))
    np.testing.assert_array_equal(model.run({"x": x})["y"], dynq.linear(x, weight))


@pytest.mark.parametrize("per_channel", [False, True])
def test_int8_weights_of_convolutions_keep_their_integers(per_channel: bool) -> None:
    q = np.random.default_rng(1).integers(-90, 91, (16, 3, 3, 8)).astype(np.int8)
    scale = np.linspace(0.01, 0.05, 16).astype(F) if per_channel else np.array([0.02], F)
    given = {"x": T((1, 5, 6, 8)), "w": T(q.shape, "int8", q, scale=scale)}
    model = one_op("CONV_2D", given, T(()), "Conv2DOptions", StrideH=1, StrideW=1, Padding=1)
    x = normal(1, 5, 6, 8)
    rows = np.array([x[0, i : i + 3, j : j + 3].reshape(-1) for i in range(3) for j in range(4)])
    weight = dynq.QuantizedWeight.from_integers(q.reshape(16, -1), np.broadcast_to(scale, 16))
    built = dynq.from_tflite(model)
    assert [row.why for row in built.report().rows if row.layer] == ["its weight is int8"]
    np.testing.assert_array_equal(built.run({"x": x})["y"].reshape(12, 16), dynq.linear(rows, weight))
    floats = rows @ (q.reshape(16, -1) * np.broadcast_to(scale, 16)[:, None]).T
    np.testing.assert_allclose(run(model, x)[0].reshape(12, 16), floats, rtol=1e-4, atol=1e-4)


def test_int8_tables_keep_their_integers() -> None:
    q = np.random.default_rng(1).integers(-90, 91, (7, 5)).astype(np.int8)
    at = np.array([3, 0, 6], np.int32)
    model = one_op("EMBEDDING_LOOKUP", {"at": T((3,), "int32"), "w": T(q.shape, "int8", q, scale=[0.02])}, T(()))
    np.testing.assert_array_equal(run(model, at)[0], q[at] * F(0.02))


def test_int4_weights_and_zero_points() -> None:
    q = np.random.default_rng(1).integers(-7, 8, (5, 7)).astype(np.int8)
    x = normal(3, 7)
    packed = dense(T(q.shape, "int4", q, scale=[0.25]), x)
    np.testing.assert_allclose(run(packed, x)[0], x @ (q * F(0.25)).T, rtol=0.02, atol=0.05)
    shifted = dense(T(q.shape, "uint8", (q + 100).astype(np.uint8), scale=[0.25], zero_point=[100]), x)
    np.testing.assert_allclose(run(shifted, x)[0], x @ (q * F(0.25)).T, rtol=1e-5, atol=1e-6)


def test_open_sizes_have_names() -> None:
    model = write(Graph({"x": T((1, 3), signature=(-1, 3)), "y": T(())}, [Op("RELU", "x", "y")], "x", "y"))
    built = dynq.from_tflite(model)
    assert built.inputs[0].shape == ("x_dim_0", 3)
    np.testing.assert_array_equal(built.run({"x": normal(5, 3)})["y"], np.maximum(normal(5, 3), 0))


def test_sizes_that_are_computed_from_open_ones() -> None:
    """A converter's way to flatten: the batch is taken from the shape."""
    tensors = {
        "x": T((1, 2, 3), signature=(-1, 2, 3)),
        "s": T((3,), "int32"),
        "n": T((), "int32"),
        "t": T((2,), "int32"),
        "zero": constant(np.zeros(1, np.int32)),
        "one": constant(np.ones(1, np.int32)),
        "six": constant(np.array(6, np.int32)),
        "y": T((1, 6)),
    }
    ops = [
        Op("SHAPE", "x", "s", "ShapeOptions", {"OutType": 2}),
        Op("STRIDED_SLICE", "s zero one one", "n", "StridedSliceOptions", {"ShrinkAxisMask": 1}),
        Op("PACK", "n six", "t", "PackOptions", {"ValuesCount": 2}),
        Op("RESHAPE", "x t", "y", "ReshapeOptions"),
    ]
    x = normal(4, 2, 3)
    np.testing.assert_array_equal(run(write(Graph(tensors, ops, "x", "y")), x)[0], x.reshape(4, 6))


# ---- Subgraphs ----


def branches() -> bytes:
    """If the sum of x is above 0, the result is x w, else x + 1; the weight passes through an argument."""
    main = Graph(
        {
            "x": T((2, 3)),
            "w": constant(normal(4, 3)),
            "axes": constant(np.array([0, 1], np.int32)),
            "s": T(()),
            "zero": constant(F(0)),
            "c": T((), "bool"),
            "y": T(()),
        },
        [
            Op("SUM", "x axes", "s", "ReducerOptions"),
            Op("GREATER", "s zero", "c"),
            Op("IF", "c x w", "y", "IfOptions", {"ThenSubgraphIndex": 1, "ElseSubgraphIndex": 2}),
        ],
        "x",
        "y",
    )
    yes = Graph(
        {"a": T((2, 3)), "b": T((4, 3)), "r": T(())},
        [Op("FULLY_CONNECTED", "a b -", "r", "FullyConnectedOptions")],
        "a b",
        "r",
    )
    no = Graph(
        {
            "a": T((2, 3)),
            "b": T((4, 3)),
            "one": constant(F(1)),
            "r": T(()),
            "p": T(()),
            "z": constant(np.array([[0, 0], [0, 1]], np.int32)),
        },
        [Op("ADD", "a one", "p", *ADD), Op("PAD", "p z", "r")],
        "a b",
        "r",
    )
    return write(main, yes, no)


def test_branches() -> None:
    for sign in (1, -1):
        x = np.abs(normal(2, 3)) * F(sign)
        want = x @ normal(4, 3).T if sign > 0 else np.pad(x + 1, [(0, 0), (0, 1)])
        np.testing.assert_allclose(run(branches(), x)[0], want, rtol=1e-5)
    built = dynq.from_tflite(branches())
    assert any(row.kind == "linear" for row in built.report().rows)  # the weight is constant in the branch


def test_a_branch_that_is_known_is_taken() -> None:
    main = Graph(
        {"c": constant(np.array(True)), "x": T((2,)), "y": T(())},
        [Op("IF", "c x", "y", "IfOptions", {"ThenSubgraphIndex": 1, "ElseSubgraphIndex": 1})],
        "x",
        "y",
    )
    body = Graph({"a": T((2,)), "r": T(())}, [Op("NEG", "a", "r")], "a", "r")
    assert [op for _, op in dynq.from_tflite(write(main, body)).nodes] == ["Neg"]


def twice(kind: str, times: int) -> bytes:
    """Return a file with IFs one behind the other, all of which run the same two subgraphs."""
    n, rng = 128, np.random.default_rng(0)
    names = [f"v{i}" for i in range(times + 1)]
    scale = rng.uniform(0.001, 0.01, n).astype(F)
    is_conv = kind == "convolution"
    shape = (n, 1, 1, n) if is_conv else (n, n)
    weight = {
        "float16": constant(rng.standard_normal(shape).astype(np.float16)),
        "float32": constant(rng.standard_normal(shape).astype(F)),
    }.get(kind, constant(rng.integers(-127, 128, shape).astype(np.int8), scale=scale))
    sizes = (1, 2, 2, n) if is_conv else (4, n)
    layer = (
        Op("CONV_2D", "h v -", "r", "Conv2DOptions", {"StrideH": 1, "StrideW": 1})
        if is_conv
        else Op("FULLY_CONNECTED", "h v -", "r", "FullyConnectedOptions")
    )
    if kind == "float16":
        body = Graph(
            {"h": T(sizes), "w": weight, "v": T(shape), "r": T(())}, [Op("DEQUANTIZE", "w", "v"), layer], "h", "r"
        )
    else:
        body = Graph({"h": T(sizes), "v": weight, "r": T(())}, [layer], "h", "r")
    other = Graph({"h": T(sizes), "r": T(())}, [Op("NEG", "h", "r")], "h", "r")
    fields = {"ThenSubgraphIndex": 1, "ElseSubgraphIndex": 2}
    ops = [Op("IF", f"k {x}", y, "IfOptions", fields) for x, y in itertools.pairwise(names)]
    tensors = {"k": T((), "bool"), **{name: T(sizes) for name in names}}
    return write(Graph(tensors, ops, f"k {names[0]}", names[-1]), body, other)


@pytest.mark.parametrize("numerics", ["dynq", "tflite"])
@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "convolution"])
def test_weights_of_a_subgraph_that_runs_twice_are_stored_once(kind: str, numerics: Any) -> None:
    for options in ({"default": "int8"}, {"quantize": False}):
        once, thrice = (dynq.from_tflite(twice(kind, n), numerics=numerics, **options) for n in (1, 3))
        assert thrice.nbytes < once.nbytes + 12000  # a weight has 16,384 integers
    given = {"k": np.array(True), "v0": normal(*((1, 2, 2, 128) if kind == "convolution" else (4, 128)))}
    x = given["v0"]
    for _ in range(3):
        (x,) = once.run({"k": given["k"], "v0": x}).values()
    (y,) = thrice.run(given).values()
    assert np.array_equal(x, y)


def test_a_graph_whose_bodies_share_a_weight_can_be_built_again() -> None:
    model = dynq.from_tflite(twice("float32", 3))
    again = dynq.Graph.build(model.graph(), quantize=False)
    given = {"k": np.array(True), "v0": normal(4, 128)}
    assert np.array_equal(*(next(iter(m.run(given).values())) for m in (model, again)))


def loop() -> bytes:
    """While i < n: i += 1, x = x * k."""
    main = Graph(
        {
            "n": T((), "int32"),
            "x": T((3,)),
            "i": constant(np.array(0, np.int32)),
            "k": constant(F(2)),
            **{name: T((), "int32") for name in ("a", "b")},
            "y": T((3,)),
            "d": T(()),
        },
        [Op("WHILE", "i n x k", "a b y d", "WhileOptions", {"CondSubgraphIndex": 1, "BodySubgraphIndex": 2})],
        "n x",
        "y",
    )
    types = {"i": T((), "int32"), "n": T((), "int32"), "x": T((3,)), "k": T(())}
    condition = Graph({**types, "c": T((), "bool")}, [Op("LESS", "i n", "c")], "i n x k", "c")
    body = Graph(
        {**types, "one": constant(np.array(1, np.int32)), "j": T((), "int32"), "z": T((3,))},
        [Op("ADD", "i one", "j", *ADD), Op("MUL", "x k", "z", "MulOptions")],
        "i n x k",
        "j n z k",
    )
    return write(main, condition, body)


def test_loops() -> None:
    x = normal(3)
    for n in (0, 1, 5):
        np.testing.assert_array_equal(run(loop(), np.array(n, np.int32), x)[0], x * F(2) ** n)


def test_a_subgraph_that_runs_itself_is_an_error() -> None:
    op = Op("IF", "c c x", "y", "IfOptions", {"ThenSubgraphIndex": 0, "ElseSubgraphIndex": 0})
    graph = Graph({"c": T((), "bool"), "x": T((2,)), "y": T(())}, [op], "c x", "y")
    with pytest.raises(dynq.InvalidModelError, match="runs itself"):
        to_graph(write(graph))


def test_subgraphs_that_multiply_are_an_error() -> None:
    """Each of many subgraphs runs the next one twice."""
    graphs = []
    for i in range(24):
        tensors = {"c": T((), "bool"), "x": T((2,)), "a": T(()), "y": T(())}
        more = {"ThenSubgraphIndex": i + 1, "ElseSubgraphIndex": i + 1}
        ops = [Op("IF", "c c x", "a", "IfOptions", more), Op("IF", "c c a", "y", "IfOptions", more)]
        graphs.append(Graph(tensors, ops, "c x", "y"))
    graphs.append(Graph({"c": T((), "bool"), "x": T((2,)), "y": T(())}, [Op("NEG", "x", "y")], "c x", "y"))
    with pytest.raises(dynq.InvalidModelError, match="more often"):
        to_graph(write(*graphs))


def test_signatures_give_names_and_choose() -> None:
    first = Graph({"t0": T((2,)), "t1": T(())}, [Op("NEG", "t0", "t1")], "t0", "t1")
    second = Graph({"a": T((2,)), "b": T(())}, [Op("ABS", "a", "b")], "a", "b")
    model = write(
        first, second, signatures=[("serve", 0, {"x": "t0"}, {"y": "t1"}), ("other", 1, {"p": "a"}, {"q": "b"})]
    )
    x = normal(2)
    np.testing.assert_array_equal(dynq.from_tflite(model).run({"x": x})["y"], -x)
    np.testing.assert_array_equal(dynq.from_tflite(model, signature="other").run({"p": x})["q"], np.abs(x))
    with pytest.raises(ValueError, match="no signature 'third'; it has 'serve', 'other'"):
        dynq.from_tflite(model, signature="third")


# ---- What is refused ----


def test_one_error_names_all_that_is_refused() -> None:
    tensors = {
        "x": T((2, 3)),
        "h": T((2, 3), "int16"),
        "m": T(()),
        "n": T(()),
        "idx": T((2, 3), "int32"),
        "k": constant(normal(2, 3)),
        "y": T(()),
    }
    ops = [
        Op("CAST", "x", "h", "CastOptions"),
        Op("CUSTOM:Mystery", "x", "m"),
        Op("SPARSE_TO_DENSE", "x x x x", "n"),
        Op("ADD", "m k", "y", "AddOptions"),
    ]
    with pytest.raises(dynq.UnsupportedModelError) as caught:
        to_graph(write(Graph(tensors, ops, "x", "y")))
    assert caught.value.problems == {
        "dtype INT16": ["h"],
        "custom op Mystery": ["m"],
        "op SPARSE_TO_DENSE": ["n"],
    }


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (one_op("ADD", {"x": T((2,)), "k": normal(2)}, T(()), "AddOptions", FusedActivationFunction=5), "SIGN_BIT"),
        (
            one_op(
                "FULLY_CONNECTED", {"x": T((2, 4)), "w": normal(4, 4)}, T(()), "FullyConnectedOptions", WeightsFormat=1
            ),
            "WeightsFormat = 1",
        ),
        (one_op("MEAN", {"x": T((2,), "int32"), "a": np.zeros(1, np.int32)}, T((), "int32")), "MEAN of integers"),
        (one_op("TRANSPOSE", {"x": T((2, 2)), "p": T((2,), "int32")}, T(())), "permutation is computed"),
    ],
)
def test_options_that_are_not_implemented_are_refused(model: bytes, text: str) -> None:
    with pytest.raises(dynq.UnsupportedModelError, match=text):
        to_graph(model)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (one_op("ADD", {"x": T((2,)), "k": normal(2)}, T(()), "MulOptions"), "has MulOptions"),
        (one_op("ADD", {"x": T((2,))}, T(())), "no input 1"),
        (one_op("ADD", {"x": T((2,)), "k": T((3,), "float32", normal(2))}, T(())), "8 bytes; its shape"),
        (one_op("CONCATENATION", {"x": T((2,)), "y2": T((2, 2))}, T(())), "dimensions"),
        (one_op("SOFTMAX", {"x": T((2,)), "w": T((3,))}, T(()), "SoftmaxOptions")[:-40], "damaged"),
        (
            write(Graph({"x": T((2,)), "z": T((2,)), "y": T(())}, [Op("ADD", "x z", "y", *ADD)], "x", "y")),
            "nothing before",
        ),
        (b"", "not a TensorFlow Lite model"),
        (b"\0" * 40, "bytes 4 to 7"),
    ],
)
def test_files_that_contradict_themselves_are_an_error(model: bytes, text: str) -> None:
    with pytest.raises(dynq.InvalidModelError, match=text):
        to_graph(model)


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for path in (tmp_path / "empty", Path("/dev/null")):
        with pytest.raises(dynq.InvalidModelError, match="not a TensorFlow Lite model"):
            to_graph(path)
    with pytest.raises(OSError):
        to_graph(tmp_path / "missing.tflite")


@pytest.mark.parametrize("at", [-2, 0, 2, 9])
def test_a_row_is_written_into_a_tensor_whose_sizes_are_open(at: int) -> None:
    """It is moved back until it fits."""
    begin = constant(np.array([at, 0], np.int32))
    tensors = {"x": T((1, 3), signature=(-1, 3)), "row": T((1, 3)), "b": begin, "y": T(())}
    model = write(Graph(tensors, [Op("DYNAMIC_UPDATE_SLICE", "x row b", "y")], "x row", "y"))
    x, row = normal(4, 3), normal(1, 3)
    want = x.copy()
    want[min(max(at, 0), 3)] = row
    np.testing.assert_array_equal(dynq.from_tflite(model)(x, row), want)
