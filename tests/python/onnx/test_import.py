"""Import of ONNX: older opsets become the newest, what is refused is named, bad models are no more than an error."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dynq
import dynq.importers.onnx.ops  # registers the converters
from dynq.importers.onnx import to_graph
from dynq.importers.onnx.convert import CONVERTERS, Converter, find
from dynq.ir import ops
from tests.python.references.onnx_models import model, node, two_layers, value

F = np.float32


def run(proto: onnx.ModelProto, **inputs: Any) -> dict[str, np.ndarray]:
    return dynq.from_onnx(proto, quantize=False).run(inputs)


def check(proto: onnx.ModelProto, rtol: float = 1e-5, **inputs: Any) -> None:
    """dynq gives what ONNX's reference gives."""
    names = [output.name for output in proto.graph.output]
    expected = ReferenceEvaluator(proto).run(names, inputs)
    got = run(proto, **inputs)
    for name, want in zip(names, expected, strict=True):
        want = np.asarray(want)
        assert got[name].dtype == want.dtype and got[name].shape == want.shape, name
        np.testing.assert_allclose(got[name], want, rtol=rtol, atol=1e-6, err_msg=name)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, F)


X = {"x": ("float32", ["n", 3, 4])}


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_a_model_is_the_same_at_each_opset(opset: int) -> None:
    proto = two_layers()
    proto.opset_import[0].version = opset
    check(proto, rtol=1e-4, x=normal(5, 64))


def test_a_file_is_quantized_by_default_and_close_to_float(tmp_path: Path) -> None:
    onnx.save(two_layers(), tmp_path / "m.onnx")
    x = normal(9, 64)
    quantized, floats = dynq.from_onnx(tmp_path / "m.onnx"), dynq.from_onnx(tmp_path / "m.onnx", quantize=False)
    assert [op for _, op in quantized.nodes].count("dynq.Linear") == 2
    a, b = quantized(x).reshape(-1), floats(x).reshape(-1)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
    assert not np.array_equal(a, b)


def test_keep_float_takes_names_of_onnx_nodes() -> None:
    kept = dynq.from_onnx(two_layers(), keep_float=["sec*"])
    assert [row.node for row in kept.report().kept_float] == ["second"]


@pytest.mark.parametrize("axis", [-3, -1, 0, 1, 2, None])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_before_opset_13_is_over_all_axes_behind(op: str, axis: int | None) -> None:
    x = normal(2, 3, 4)
    # The reference evaluator takes the one axis here: so by the operator's text.
    flat = x.reshape(int(np.prod(x.shape[: (1 if axis is None else axis) % 3])), -1)
    e = np.exp(flat)
    want = e / e.sum(1, keepdims=True)
    got = run(model([node(op, "x", "y", axis=axis)], X, "y", opset=11), x=x)["y"]
    np.testing.assert_allclose(got, (want if op == "Softmax" else np.log(want)).reshape(x.shape), rtol=1e-5)
    check(model([node(op, "x", "y", axis=axis)], X, "y", opset=13), x=x)


def test_axes_as_attributes_become_inputs() -> None:
    nodes = [node("Unsqueeze", "x", "u", axes=[0, 4]), node("Squeeze", "u", "s", axes=[0])]
    check(model([*nodes, node("ReduceMean", "s", "y", axes=[1], keepdims=0)], X, "y u", opset=11), x=normal(2, 3, 4))


def test_a_split_of_opset_11_has_its_sizes_as_attribute() -> None:
    check(model([node("Split", "x", "a b", axis=2, split=[1, 3])], X, "a b", opset=11), x=normal(2, 3, 4))
    check(model([node("Split", "x", "a b", axis=2)], X, "a b", opset=11), x=normal(2, 3, 4))
    for output in "ab":
        check(model([node("Split", "x", "a b", axis=2, split=[1, 3])], X, output, opset=11), x=normal(2, 3, 4))
        check(model([node("Split", "x", "a b", axis=2)], X, output, opset=13), x=normal(2, 3, 4))
    check(model([node("Split", "x", "a b", axis=2, num_outputs=2)], X, "a b", opset=18), x=normal(2, 3, 4))


def test_constants_are_nodes_or_initializers() -> None:
    nodes = [
        node("Constant", "", "a", value=numpy_helper.from_array(normal(4))),
        node("Constant", "", "b", value_float=2.5),
        node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0, 4.0]),
        node("Add", "x a", "p"), node("Mul", "p b", "q"), node("Sub", "q c", "r"), node("Add", "r d", "y"),
    ]  # fmt: skip
    check(model(nodes, X, "y", {"d": normal(3, 1)}), x=normal(2, 3, 4))


def test_initializers_of_the_oldest_files_need_not_be_inputs() -> None:
    """By IR version 3 they have to be, and ONNX knows no type of others; tools that quantize such files add others."""
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    numbers = {"s": np.float32(0.5), "z": np.int8(3)}
    proto = model(nodes, {"x": ("float32", (2, 3))}, "y", numbers, opset=11)
    proto.ir_version = 3
    x = np.array([[0.4, -7, 90], [1, 0.25, 2]], np.float32)
    np.testing.assert_array_equal(dynq.from_onnx(proto)(x), (np.clip(np.rint(x * 2) + 3, -128, 127) - 3) / 2)


def test_a_constant_of_shape_is_filled() -> None:
    nodes = [node("Shape", "x", "s"), node("ConstantOfShape", "s", "z"), node("Add", "x z", "y")]
    seven = numpy_helper.from_array(np.array([7], np.int64))
    check(model([*nodes, node("ConstantOfShape", "s", "k", value=seven)], X, "y k"), x=normal(2, 3, 4))


def test_outputs_may_be_inputs_and_constants() -> None:
    proto = model([node("Identity", "x", "y")], X, "x y c", {"c": normal(2)})
    x = normal(1, 3, 4)
    got = run(proto, x=x)
    assert np.array_equal(got["x"], x) and np.array_equal(got["y"], x) and np.array_equal(got["c"], normal(2))


def branches(nodes: list[onnx.NodeProto], outer: list[onnx.NodeProto], **initializers: Any) -> onnx.ModelProto:
    """``if c: y = x + x else: y = x * x``."""
    graphs = {
        f"{name}_branch": helper.make_graph(
            [node(op, "x x", "inner", name="n")], name, [], [value("inner", None, None)]
        )
        for name, op in (("then", "Add"), ("else", "Mul"))
    }
    return model([*outer, node("If", "c", "y", **graphs), *nodes], X, "y", initializers)


@pytest.mark.parametrize("condition", [True, False])
def test_an_if_with_a_constant_condition_is_its_branch(condition: bool) -> None:
    check(branches([], [], c=np.array(condition)), x=normal(2, 3, 4))


@pytest.mark.parametrize("size", [3, 4])
def test_the_condition_of_an_if_may_follow_from_a_size_that_is_known(size: int) -> None:
    outer = [node("Shape", "x", "s"), node("Gather", "s one", "d"), node("Equal", "d size", "c")]
    proto = branches([], outer, one=np.array(1), size=np.array(size))
    check(proto, x=normal(2, 3, 4))
    assert [n.op for n in to_graph(proto).nodes][-1] == ("Add" if size == 3 else "Mul")


def test_the_condition_of_an_if_may_follow_from_a_long_chain_of_doublings() -> None:
    names = ["d", *(f"d{i}" for i in range(40))]
    chain = [node("Add", f"{a} {a}", b) for a, b in itertools.pairwise(names)]
    outer = [node("Shape", "x", "s"), node("Gather", "s one", "d"), *chain, node("Equal", "d39 size", "c")]
    proto = branches([], outer, one=np.array(1), size=np.array(3 * 2**40))
    assert [n.op for n in to_graph(proto).nodes][-1] == "Add"


def test_functions_of_the_model_are_put_where_they_are_called() -> None:
    function = helper.make_function(
        "custom", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 21)]
    )
    proto = model([helper.make_node("Twice", ["x"], ["t"], domain="custom"), node("Mul", "t x", "y")], X, "y")
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("custom", 1))
    check(proto, x=normal(2, 3, 4))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_of_other_floats_become_float32(dtype: str) -> None:
    w = normal(4, 5).astype(dtype)
    proto = model([node("MatMul", "x w", "y")], {"x": (dtype, [2, 4])}, "y", {"w": w})
    got = run(proto, x=normal(2, 4))
    np.testing.assert_allclose(got["y"], normal(2, 4) @ w.astype(F), rtol=1e-5)


def test_bfloat16_weights_become_float32() -> None:
    w = helper.make_tensor("w", TensorProto.BFLOAT16, [2], [1.5, -3.0])
    proto = model([node("Cast", "w", "f", to=TensorProto.FLOAT), node("Mul", "x f", "y")], {"x": ("float32", [2])}, "y")
    proto.graph.initializer.append(w)
    assert run(proto, x=np.ones(2, F))["y"].tolist() == [1.5, -3.0]


def test_a_float64_that_float32_cannot_hold_is_an_error() -> None:
    proto = model([node("Mul", "x w", "y")], {"x": ("float64", [1])}, "y", {"w": np.array([1e300])})
    with pytest.raises(dynq.InvalidModelError, match=r"'w'.*beyond float32"):
        to_graph(proto)


def test_what_is_neither_a_path_nor_a_model_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="model is of type int"):
        dynq.from_onnx(3)  # type: ignore[arg-type]


def test_one_error_lists_everything_that_is_not_supported() -> None:
    nodes = [
        node("Multinomial", "x", "z", "coin"), node("Multinomial", "z", "zz", "more coins"),
        node("MaxRoiPool", "x x", "d", "pool", pooled_shape=[1, 1]),
        node("Cast", "x", "s", "text", to=TensorProto.STRING),
        node("LayerNormalization", "x w", "l", "norm", stash_type=10),
    ]  # fmt: skip
    proto = model(nodes, X, "zz d s l", {"w": np.ones(4, F)})
    proto.graph.initializer.append(helper.make_tensor("u", TensorProto.UINT16, [1], [1]))
    with pytest.raises(dynq.UnsupportedModelError) as caught:
        to_graph(proto)
    assert caught.value.problems == {
        "dtype UINT16 of initializer": ["u"],
        "op Multinomial (opset 21) works with random choices, which differ in each run": ["coin", "more coins"],
        "op MaxRoiPool (opset 21) works with an operation that dynq has no kernel for": ["pool"],
        "Cast to STRING": ["text"],
        "attribute LayerNormalization.stash_type = 10; expected 1": ["norm"],
    }
    assert "'coin', 'more coins'" in str(caught.value)


def test_an_attribute_that_no_converter_knows_is_refused() -> None:
    with pytest.raises(dynq.UnsupportedModelError, match=r"attribute Relu\.slope: 'r'"):
        to_graph(model([node("Relu", "x", "y", "r", slope=0.5)], X, "y"))


def test_ops_of_other_domains_are_refused_by_name() -> None:
    proto = model([helper.make_node("Rotate", ["x"], ["y"], "r", domain="com.microsoft")], X, "y", microsoft=True)
    with pytest.raises(dynq.UnsupportedModelError, match=r"op com\.microsoft\.Rotate \(opset 1\): 'r'"):
        to_graph(proto)


def test_a_cycle_is_named() -> None:
    proto = model([node("Add", "x b", "a", "one"), node("Add", "a a", "b", "two")], X, "b")
    with pytest.raises(dynq.InvalidModelError, match=r"'one' -> 'two' -> 'one'|'two' -> 'one' -> 'two'"):
        to_graph(proto)


def test_nodes_may_stand_in_any_order() -> None:
    proto = model([node("Add", "t x", "y"), node("Mul", "x x", "t")], X, "y")
    x = normal(2, 3, 4)
    np.testing.assert_allclose(run(proto, x=x)["y"], x * x + x, rtol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        ([node("Add", "x w", "y", "sum")], "y", r"node 'sum' \(Add\) reads 'w'"),
        ([node("Add", "x x", "y", "sum")], "", "has no outputs"),
        ([node("Add", "x x", "y", "sum")], "z", "nothing computes the output 'z'"),
        ([node("Add", "x x", "y", "a"), node("Mul", "x x", "y", "b")], "y", "node 'b' computes 'y'"),
        ([node("Add", "x k", "y", "sum")], "y", "sum"),
        ([node("MatMul", "x m", "y", "product")], "y", "product"),
        ([node("Softmax", "x", "y", "soft", axis=1.5)], "y", "node 'soft': attribute axis is float; expected int"),
        ([node("Concat", "x x", "y", "join", axis=9)], "y", "join"),
    ],
    ids=[
        "no initializer",
        "no outputs",
        "no such output",
        "two producers",
        "dtypes",
        "sizes",
        "attribute type",
        "axis",
    ],
)
def test_a_model_that_contradicts_itself_is_refused(
    nodes: list[onnx.NodeProto], outputs: str, message: str
) -> None:  # fmt: skip
    proto = model(nodes, X, outputs, {"k": np.ones(4, np.int64), "m": normal(5, 2)})
    with pytest.raises(dynq.InvalidModelError, match=message):
        to_graph(proto)


@pytest.mark.parametrize("dims", [[-1], [2**40, 2**40], [2**62, 4]])
def test_sizes_that_cannot_be_are_refused(dims: list[int]) -> None:
    proto = model([node("Add", "x w", "y")], X, "y")
    tensor = TensorProto(data_type=TensorProto.FLOAT, name="w", dims=dims, raw_data=b"")
    proto.graph.initializer.append(tensor)
    with pytest.raises(dynq.InvalidModelError, match="'w'"):
        to_graph(proto)


def test_an_initializer_with_too_few_bytes_is_refused() -> None:
    proto = model([node("Add", "x w", "y")], X, "y")
    proto.graph.initializer.append(TensorProto(data_type=TensorProto.FLOAT, name="w", dims=[4], raw_data=b"12345678"))
    with pytest.raises(dynq.InvalidModelError, match="'w'"):
        to_graph(proto)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a model", b"\x08\x08\x12\xff\xff"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(dynq.InvalidModelError):
        dynq.from_onnx(path)


@pytest.mark.parametrize("step", [7, 61])
def test_a_damaged_file_never_crashes(tmp_path: Path, step: int) -> None:
    good = two_layers().SerializeToString()
    for at in range(0, 300, step):
        bad = bytearray(good)
        bad[at] ^= 0x15
        (tmp_path / "m.onnx").write_bytes(bad)
        with contextlib.suppress(dynq.Error):
            dynq.from_onnx(tmp_path / "m.onnx")


def external(folder: Path) -> Path:
    proto = two_layers()
    path = folder / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def test_external_data_are_read_from_beside_the_model(tmp_path: Path) -> None:
    x = normal(3, 64)
    assert np.array_equal(dynq.from_onnx(external(tmp_path))(x), dynq.from_onnx(two_layers())(x))


def relocate(path: Path, **entries: str) -> None:
    proto = onnx.load_model(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("location", ["../m.data", "/etc/hostname", "sub/../../m.data", "", "link", "nothing", "."])
def test_external_data_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = external(inside)
    os.rename(inside / "m.data", tmp_path / "m.data")
    (inside / "sub").mkdir()
    (inside / "link").symlink_to(tmp_path / "m.data")
    relocate(path, location=location)
    with pytest.raises(dynq.InvalidModelError, match="folder"):
        dynq.from_onnx(path)


def test_external_data_are_refused_where_the_way_there_leads_up(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "sub").mkdir()
    relocate(path, location="sub/../m.data")
    with pytest.raises(dynq.InvalidModelError, match="expected a file in the model's folder"):
        dynq.from_onnx(path)


@pytest.mark.parametrize(
    "entries", [{"offset": "100000"}, {"offset": "-4"}, {"length": "4"}, {"length": "x"}, {"offset": "9" * 30}]
)
def test_external_data_that_are_not_there_are_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    path = external(tmp_path)
    relocate(path, **entries)
    with pytest.raises(dynq.InvalidModelError, match="external data"):
        dynq.from_onnx(path)


def test_a_loaded_model_with_external_data_is_refused(tmp_path: Path) -> None:
    proto = onnx.load_model(external(tmp_path), load_external_data=False)
    with pytest.raises(dynq.InvalidModelError, match="give the path"):
        to_graph(proto)


def test_the_model_that_is_handed_in_stays_as_it_was() -> None:
    proto = two_layers()
    before = proto.SerializeToString(deterministic=True)
    dynq.from_onnx(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_a_wrong_shape_of_an_output_is_the_exporters_mistake() -> None:
    proto = model([node("MatMul", "x w", "y")], {"x": ("float32", ["n", 4])}, "", {"w": normal(4, 2)})
    proto.graph.output.append(value("y", "float32", ["n", 3]))
    assert run(proto, x=normal(5, 4))["y"].shape == (5, 2)


def test_inputs_with_open_sizes_without_names_are_independent() -> None:
    proto = model([node("MatMul", "a b", "y")], {"a": ("float32", [None, 3]), "b": ("float32", [3, None])}, "y")
    assert run(proto, a=normal(2, 3), b=normal(3, 5))["y"].shape == (2, 5)


def test_inputs_that_are_initializers_too_are_constants() -> None:
    proto = model([node("Add", "x w", "y")], {**X, "w": ("float32", [4])}, "y", {"w": normal(4)})
    assert [v.name for v in dynq.from_onnx(proto).inputs] == ["x"]


def test_every_op_that_the_runtime_has_can_be_imported() -> None:
    to_graph(two_layers())  # fills the table
    newest = onnx.defs.onnx_opset_version()
    assert [op for op in ops.names() if not op.startswith("dynq.") and find("", op, newest) is None] == []


def test_without_the_onnx_package_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['onnx'] = None; import dynq; dynq.from_onnx('m.onnx')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "dynq.errors.MissingPackageError: onnx is missing; install it: pip install 'dynq[onnx]'" in done.stderr


@pytest.mark.parametrize("op", sorted(op for domain, op in CONVERTERS if not domain))
def test_converters_ask_for_inputs_that_their_opsets_have(op: str) -> None:
    for opset in range(7, onnx.defs.onnx_opset_version() + 1):
        found = find("", op, opset)
        if found is None or not onnx.defs.has(op, opset, ""):
            continue
        code = inspect.getsource(found.function)
        asked = set(re.findall(r'call\.(?:input|need|array|rank|onnx_type)\("(\w+)"\)', code))
        assert asked <= {given.name for given in onnx.defs.get_schema(op, opset).inputs}, opset


def test_an_input_that_onnx_does_not_have_is_a_fault_of_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Converter(1, None, {}, lambda call: call.need("data"))
    monkeypatch.setitem(CONVERTERS, ("", "Relu"), [wrong])
    with pytest.raises(AssertionError, match="Relu has no input 'data' in opset 17; it has X"):
        to_graph(model([node("Relu", "x", "y")], {"x": ("float32", [2])}, "y", opset=17))


def test_an_op_that_its_opset_does_not_have_is_refused() -> None:
    proto = model([node("ConstantOfShape", "shape", "y")], {"shape": ("int64", [2])}, "y", opset=8)
    with pytest.raises(dynq.UnsupportedModelError, match=r"op ConstantOfShape \(opset 8\)"):
        to_graph(proto)
