"""If, Loop and Scan on data: bodies are graphs of their own in the file, quantized like the rest."""

from __future__ import annotations

import signal
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dynq
from dynq.accuracy import analyze
from tests.python.references.onnx_runtime import agrees, by_runtime, error

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

F = np.float32
BOOL, INT64, FLOAT = TensorProto.BOOL, TensorProto.INT64, TensorProto.FLOAT
RNG = np.random.default_rng(3)
W = (RNG.standard_normal((32, 32)) * 0.2).astype(F)


def value(name: str, shape: Any = None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node; "_" stands for an input that is left out."""
    names = [["" if name == "_" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, **attributes)


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Any:
    return helper.make_graph(nodes, "body", inputs, outputs)


def loop_body(nodes: list[Any], carried: str, results: str, scans: str = "") -> Any:
    """The body of a Loop: iteration ``i``, condition ``c``, whose successor is ``c_out``."""
    inputs = [value("i", [], INT64), value("c", [], BOOL), *map(value, carried.split())]
    return graph(nodes, inputs, [value("c_out", [], BOOL), *map(value, [*results.split(), *scans.split()])])


def model(nodes: list[Any], inputs: list[Any], outputs: str, opset: int = 17, **constants: Any) -> Any:
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    made = helper.make_graph(nodes, "g", inputs, list(map(value, outputs.split())), initializers)
    for output in made.output:
        output.type.tensor_type.ClearField("shape")
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def same(proto: Any, *all_feeds: dict[str, Any], tolerance: float = 2e-6) -> dynq.Model:
    """Assert that one session gives for each input what ONNX Runtime gives."""
    built = dynq.from_onnx(proto, quantize=False)
    for feeds in all_feeds:
        for got, want in zip(built.run(feeds).values(), by_runtime(proto, feeds), strict=True):
            assert error(got, want) <= tolerance
    return built


LAYER = [node("MatMul", "h W", "m", name="inner"), node("Tanh", "m", "h_out"), node("Identity", "c", "c_out")]


def quantized(built: dynq.Model) -> list[str]:
    return [row.node for row in built.report().rows if row.quantized]


def test_a_layer_in_a_body_is_int8_and_the_report_has_it() -> None:
    body = loop_body(LAYER, "h", "h_out")
    proto = model(
        [node("Loop", "n _ x", "y", body=body, name="loop")], [value("x", ["b", 32]), value("n", [], INT64)], "y", W=W
    )
    for n in (0, 1, 4):
        built = agrees(proto, {"x": RNG.standard_normal((5, 32)).astype(F), "n": np.array(n)})
    assert quantized(built) == ["loop/inner"]
    assert ("loop/inner", "dynq.Linear") in built.nodes
    assert "loop/inner" in str(built.graph())
    assert not quantized(dynq.from_onnx(proto, first_layer="int8", keep_float="loop/inner"))
    times = {each.name: each.seconds for each in built.profile({"x": np.ones((5, 32), F), "n": np.array(50)})}
    assert 0 < times["loop/inner"] < times["loop"]


def test_an_if_on_an_input_takes_one_branch_and_shares_its_weight_with_the_other() -> None:
    then = graph([node("MatMul", "x W", "a"), node("Add", "a bias", "p")], [], [value("p")])
    other = graph([node("MatMul", "x W", "q")], [], [value("q")])
    proto = model(
        [node("If", "flag", "y", then_branch=then, else_branch=other, name="if")],
        [value("x", ["b", 32]), value("flag", [], BOOL)],
        "y",
        W=W,
        bias=W[0],
    )
    for flag in (True, False):
        built = agrees(proto, {"x": RNG.standard_normal((3, 32)).astype(F), "flag": np.array(flag)})
    assert len(quantized(built)) == 2
    alone = dynq.from_onnx(proto, inputs={"flag": False}, first_layer="int8")
    assert built.nbytes < 2 * alone.nbytes  # one weight
    x = RNG.standard_normal((3, 32)).astype(F)
    assert np.array_equal(alone(x), built.run({"x": x, "flag": np.array(False)})["y"])


@pytest.mark.parametrize("rate", [8, 16])
@pytest.mark.parametrize("nested", [False, True])
def test_a_branch_that_never_runs_may_contradict_sizes_that_are_fixed(rate: int, nested: bool) -> None:
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[0])
    squeezed = graph([axes, node("Squeeze", "x axes", "a")], [], [value("a")])  # takes one row
    sizes = [node("Shape", "x", "s"), node("Size", "s", "n")]
    turned = graph([*sizes, node("Cast", "n", "f", to=FLOAT), node("Mul", "x f", "b")], [], [value("b")])  # takes any
    if nested:  # the same names as in the other branch, and no known rank behind it
        inner = node("If", "is_8", "a", then_branch=squeezed, else_branch=turned)
        turned = graph([inner, node("Softmax", "a", "b", axis=-1)], [], [value("b")])
    nodes = [
        node("Equal", "rate eight", "is_8"),
        node("If", "is_8", "y", then_branch=squeezed, else_branch=turned),
        node("Relu", "y", "z"),
    ]
    inputs = [value("x", ["rows", 4]), value("rate", [], INT64)]
    proto = model(nodes, inputs, "z", eight=np.int64(8))
    for rows in (1, 2):
        x = RNG.standard_normal((rows, 4)).astype(F)
        if rows == 2 and rate == 8:
            with pytest.raises(dynq.InvalidModelError, match="Squeeze"):
                dynq.from_onnx(proto, inputs={"rate": rate}, shapes={"x": x.shape})
            continue
        built = dynq.from_onnx(proto, inputs={"rate": rate}, shapes={"x": x.shape}, quantize=False)
        assert "dynq.If" not in [op for _, op in built.nodes]
        (expected,) = by_runtime(proto, {"x": x, "rate": np.array(rate)})
        assert error(built.run({"x": x})["z"], expected) <= 2e-6


def test_a_body_casts_to_the_type_of_a_value_around_it_or_of_its_own() -> None:
    body = graph(
        [node("CastLike", "one s", "a"), node("CastLike", "a i", "b"), node("CastLike", "b outer", "c"),
         node("Add", "s a", "d"), node("Add", "d c", "s_out"), node("Identity", "s_out", "scan")],
        [value("s"), value("i")], [value("s_out"), value("scan")],
    )  # fmt: skip
    for part in body.input:  # the node tells the types, the body does not
        part.ClearField("type")
    nodes = [node("Scan", "x rows", "y scans", body=body, num_scan_inputs=1)]
    proto = model(nodes, [value("x", [3]), value("rows", [4, 3], INT64)], "y scans", one=np.int64(1), outer=F(2))
    same(proto, {"x": RNG.standard_normal(3).astype(F), "rows": np.ones((4, 3), np.int64)})


def test_branches_of_different_shapes() -> None:
    then = graph([node("Concat", "x x", "p", axis=0)], [], [value("p")])
    other = graph([node("Identity", "x", "q")], [], [value("q")])
    nodes = [node("If", "flag", "y", then_branch=then, else_branch=other), node("Neg", "y", "z")]
    proto = model(nodes, [value("x", ["b", 3]), value("flag", [1], BOOL)], "z y")
    feeds = [{"x": RNG.standard_normal((2, 3)).astype(F), "flag": np.array([flag])} for flag in (True, False, True)]
    assert same(proto, *feeds).outputs[0].shape == (None, 3)


def test_what_iterations_pass_on_may_grow_and_the_condition_may_end_it() -> None:
    nodes = [
        node("Concat", "s x", "s_out", axis=0), node("ReduceSum", "s_out", "sum", keepdims=0),
        node("Less", "sum limit", "c_out"), node("Cast", "i", "f", to=FLOAT), node("Add", "sum f", "o"),
    ]  # fmt: skip
    inputs = [value("x", ["a"]), value("n", [], INT64), value("go", [], BOOL), value("limit", [])]
    proto = model([node("Loop", "n go x", "y z", body=loop_body(nodes, "s", "s_out", "o"))], inputs, "y z")
    proto.graph.node[0].attribute[0].g.output[2].type.tensor_type.shape.Clear()
    feeds = [
        {"x": np.array([1, 2, 3], F), "n": np.array(n), "go": np.array(go), "limit": np.array(limit, F)}
        for n, go, limit in [
            (0, True, 40),
            (1, True, 40),
            (5, True, 40),
            (900, True, 40),
            (9, False, 40),
            (7, True, 1e9),
        ]
    ]
    same(proto, *feeds)


def nested() -> Any:
    """A Loop in a Loop and an If beside it; each reads values of all graphs around it."""
    inner = loop_body(
        [node("Add", "v x", "v1"), node("Mul", "v1 k_float", "v2"), node("Identity", "c", "c_out"),
         node("ReduceMean", "v2", "mean", keepdims=0)], "v", "v2", "mean",
    )  # fmt: skip
    then = graph([node("Neg", "w", "p")], [], [value("p")])
    other = graph([node("Add", "w x", "q")], [], [value("q")])
    outer = graph(
        [node("Cast", "k", "k_float", to=FLOAT), node("Loop", "m _ u", "w means", body=inner, name="in"),
         node("Greater", "k_float one", "g"), node("If", "g", "u_out", then_branch=then, else_branch=other),
         node("Identity", "go", "go_out")],
        [value("k", [], INT64), value("go", [], BOOL), value("u")],
        [value("go_out", [], BOOL), value("u_out"), value("means")],
    )  # fmt: skip
    inputs = [value("x", ["a", "b"]), value("n", [], INT64), value("m", [], INT64)]
    return model([node("Loop", "n _ x", "y z", body=outer, name="out")], inputs, "y z", one=F(1))


def test_loops_in_loops_read_what_is_around_them() -> None:
    x = (0.1 * RNG.standard_normal((2, 3))).astype(F)
    feeds = [{"x": x, "n": np.array(n), "m": np.array(m)} for n, m in [(3, 1), (1, 1), (4, 3), (2, 2)]]
    built = same(nested(), *feeds)
    assert "out/in/Add_0" in [name for name, _ in built.nodes]
    again = dynq.from_onnx(nested(), quantize=False)
    assert str(again.graph()) == str(built.graph())


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_scan(data: st.DataObject) -> None:
    """Directions and axes of inputs and outputs; the body computes a state and two results."""
    directions, out_directions = ([data.draw(st.integers(0, 1)) for _ in range(2)] for _ in range(2))
    axes, out_axes = ([data.draw(st.sampled_from([0, 1, -1, -2])) for _ in range(2)] for _ in range(2))
    steps = data.draw(st.integers(1, 5))
    body = graph(
        [node("Add", "s a", "t"), node("Mul", "t b", "o"), node("Sub", "a b", "p")],
        [value("s"), value("a"), value("b")], [value("t"), value("o"), value("p")],
    )  # fmt: skip
    scan = node(
        "Scan", "s0 a0 b0", "y o_all p_all", body=body, num_scan_inputs=2,
        scan_input_directions=directions, scan_output_directions=out_directions,
        scan_input_axes=axes, scan_output_axes=out_axes,
    )  # fmt: skip
    proto = model([scan], [value("s0", [3]), value("a0", ["m", "n"]), value("b0", ["o", "p"])], "y o_all p_all")
    a, b = (RNG.standard_normal((steps, 3) if axis % 2 == 0 else (3, steps)).astype(F) for axis in axes)
    same(proto, {"s0": RNG.standard_normal(3).astype(F), "a0": a, "b0": b})


def test_scan_inputs_of_different_lengths_are_refused() -> None:
    body = graph([node("Add", "a b", "o")], [value("a"), value("b")], [value("o")])
    proto = model(
        [node("Scan", "x z", "y", body=body, num_scan_inputs=2)], [value("x", ["n", 3]), value("z", ["m", 3])], "y"
    )
    for other in (3, 5):
        with pytest.raises(ValueError, match="Split"):
            dynq.from_onnx(proto).run({"x": np.zeros((4, 3), F), "z": np.zeros((other, 3), F)})


def test_a_recurrent_network_as_a_scan_is_int8_and_the_batch_does_not_matter() -> None:
    nodes = [node("Add", "a h", "s"), node("MatMul", "s W", "m", name="cell")]
    nodes += [node("Tanh", "m", "h_out"), node("Identity", "h_out", "o")]
    body = graph(nodes, [value("h"), value("a")], [value("h_out"), value("o")])
    proto = model(
        [node("Scan", "h0 x", "y o_all", body=body, num_scan_inputs=1, name="scan")],
        [value("x", ["t", "b", 32]), value("h0", ["b", 32])],
        "y o_all",
        W=W,
    )
    feeds = {"x": RNG.standard_normal((6, 4, 32)).astype(F), "h0": np.zeros((4, 32), F)}
    built = agrees(proto, feeds, quantized=0.1)
    assert quantized(built) == ["scan/cell"]
    every, threads = built.run(feeds)["o_all"], dynq.get_num_threads()
    try:
        for isa in dynq.isa.supported():
            dynq.set_num_threads(2)
            with dynq.isa.use(isa):
                one = built.run({"x": feeds["x"][:, 1:2], "h0": feeds["h0"][1:2]})["o_all"]
                assert np.array_equal(one, every[:, 1:2])
    finally:
        dynq.set_num_threads(threads)


def test_no_iteration_at_all() -> None:
    body = loop_body([*LAYER, node("Relu", "m", "o")], "h", "h_out", "o")
    proto = model([node("Loop", "n _ x", "y z", body=body)], [value("x", ["b", 32]), value("n", [], INT64)], "y z", W=W)
    x = np.ones((2, 32), F)
    y, z = dynq.from_onnx(proto).run({"x": x, "n": np.array(0)}).values()
    assert np.array_equal(x, y) and z.shape == (0, 0, 32) and z.dtype == F  # a size that the run decides is 0
    assert np.array_equal(dynq.from_onnx(proto).run({"x": x, "n": np.array(-5)})["y"], x)


ENDLESS = [node("Identity", "c", "c_out")]


def test_an_endless_loop_can_be_interrupted() -> None:
    body = graph(
        ENDLESS,
        [value("i", [], INT64), value("c", [], BOOL), value("v", [])],
        [value("c_out", [], BOOL), value("v", [])],
    )
    built = dynq.from_onnx(model([node("Loop", "n _ q", "y", body=body)], [value("n", [], INT64), value("q", [])], "y"))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            built.run({"n": np.array(2**40), "q": np.array(0, F)})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 20  # not 2**40 iterations
    assert built.run({"n": np.array(3), "q": np.array(7, F)})["y"] == 7


def test_what_iterations_gather_is_bounded_by_max_bytes() -> None:
    body = loop_body([*ENDLESS, node("Identity", "x", "o")], "v", "v", "o")
    proto = model(
        [node("Loop", "n _ q", "y z", body=body)], [value("x", [256]), value("n", [], INT64), value("q", [])], "z"
    )
    built = dynq.from_onnx(proto)
    built.max_bytes = 1 << 20
    feeds = {"x": np.ones(256, F), "q": np.array(0, F)}
    with pytest.raises(dynq.OutOfMemoryError, match=r"'Loop_0'.*limit is"):
        built.run({**feeds, "n": np.array(2**40)})
    assert built.run({**feeds, "n": np.array(100)})["z"].shape == (100, 256)


def test_errors_name_the_node_in_the_body() -> None:
    body = loop_body([*ENDLESS, node("Reshape", "v shape", "v_out", name="bad")], "v", "v_out")
    proto = model(
        [node("Loop", "n _ x", "y", body=body, name="loop")], [value("x", ["a"]), value("n", [], INT64)], "y", shape=[3]
    )
    with pytest.raises(ValueError, match=r"'loop' .*'loop/bad' \(Reshape\)"):
        dynq.from_onnx(proto).run({"x": np.ones(4, F), "n": np.array(2)})
    refused = loop_body([*ENDLESS, node("Multinomial", "v", "v_out", name="dice")], "v", "v_out")
    proto = model(
        [node("Loop", "n _ x", "y", body=refused, name="loop")], [value("x", ["a"]), value("n", [], INT64)], "y"
    )
    with pytest.raises(dynq.UnsupportedModelError, match="loop/dice"):
        dynq.from_onnx(proto)


def test_scan_outputs_of_different_shapes_are_refused() -> None:
    body = loop_body([*ENDLESS, node("Concat", "v x", "v_out", axis=0), node("Identity", "v", "o")], "v", "v_out", "o")
    proto = model([node("Loop", "n _ x", "y z", body=body)], [value("x", ["a"]), value("n", [], INT64)], "z")
    with pytest.raises(ValueError, match="scan output 0 has another dtype or shape"):
        dynq.from_onnx(proto).run({"x": np.ones(4, F), "n": np.array(3)})


def test_a_value_of_a_body_may_have_the_name_of_one_around_it() -> None:
    body = loop_body([*ENDLESS, node("ReduceSum", "v", "z", keepdims=0), node("Add", "v z", "y")], "v", "y", "z")
    proto = model([node("Loop", "n _ x", "y z", body=body)], [value("x", ["a", 2]), value("n", [], INT64)], "y z")
    feeds = {"x": RNG.standard_normal((3, 2)).astype(F), "n": np.array(3)}
    same(proto, feeds)


def test_files_are_saved_loaded_and_pickled(tmp_path: Any) -> None:
    built = dynq.from_onnx(nested(), quantize=False)
    built.save(tmp_path / "nested.dynq")
    feeds = {"x": np.ones((2, 3), F), "n": np.array(3), "m": np.array(2)}
    want = built.run(feeds)
    for mapped in (True, False):
        got = dynq.load(tmp_path / "nested.dynq", mapped=mapped).run(feeds)
        assert all(np.array_equal(got[name], want[name]) for name in want)
    assert dynq.verify(tmp_path / "nested.dynq")
    with pytest.raises(dynq.UnsupportedModelError, match=r"dynq\.Loop, which runs graphs of its own"):
        dynq.export_onnx(built, tmp_path / "nested.onnx")


def test_layers_around_a_loop_can_be_analyzed_and_smoothed() -> None:
    loop = node("Loop", "n _ first", "y", body=loop_body(LAYER, "h", "h_out"), name="loop")
    nodes = [node("MatMul", "x W", "first", name="front"), loop, node("MatMul", "y V", "z", name="back")]
    proto = model(nodes, [value("x", ["b", 32]), value("n", [], INT64)], "z", W=W, V=W.T.copy())
    samples = [{"x": RNG.standard_normal((4, 32)).astype(F), "n": np.array(3)} for _ in range(2)]
    found = {row.name for row in analyze(proto, samples).rows}
    assert {"front", "back"} <= found
    smooth = dynq.from_onnx(proto, smooth=samples, first_layer="int8")
    assert quantized(smooth) == ["front", "back", "loop/inner"]
