"""Ops of ai.onnx.ml, as converters of scikit-learn write them, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dynq
from tests.python.references.onnx_runtime import by_runtime, error

FLOAT, INT64, DOMAIN = TensorProto.FLOAT, TensorProto.INT64, "ai.onnx.ml"


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def learned(op: str, x: np.ndarray, outputs: dict[str, int], version: int = 3, **attributes: Any) -> Any:
    node = helper.make_node(op, ["x"], list(outputs), "node", domain=DOMAIN, **attributes)
    given = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), [None, *x.shape[1:]])
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, version)]
    return helper.make_model(helper.make_graph([node], "g", [given], results), opset_imports=opsets, ir_version=8)


def compare(proto: Any, x: np.ndarray) -> None:
    got = dynq.from_onnx(proto, quantize=False).run({"x": x})
    for have, want in zip(got.values(), by_runtime(proto, {"x": x}), strict=True):
        assert error(have, want) <= (0 if have.dtype == np.int64 else 1e-5)


X = rows(6, 4)
HOLES = np.where(np.arange(24).reshape(6, 4) % 5 == 2, np.float32(np.nan), X)
SOME_ZEROS = np.where(np.arange(6)[:, None] == 2, np.float32(0), X)
NUMBERS = np.random.default_rng(1).integers(0, 7, (5, 4))
COLUMNS: list[tuple[str, np.ndarray, dict[str, Any]]] = [
    ("Scaler", X, {"offset": [1.0, 2.0, 3.0, 4.0], "scale": [0.5, 2.0, 3.0, 4.0]}),
    ("Scaler", NUMBERS, {"offset": [1.0], "scale": [0.5]}),
    ("Normalizer", SOME_ZEROS, {"norm": "MAX"}),
    ("Normalizer", SOME_ZEROS, {"norm": "L1"}),
    ("Normalizer", SOME_ZEROS, {"norm": "L2"}),
    ("Binarizer", X, {"threshold": 0.3}),
    ("Imputer", HOLES, {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0], "replaced_value_float": float("nan")}),
    ("Imputer", SOME_ZEROS, {"imputed_value_floats": [7.0], "replaced_value_float": 0.0}),
    ("OneHotEncoder", NUMBERS, {"cats_int64s": [1, 3, 5], "zeros": 1}),
    ("LabelEncoder", NUMBERS, {"keys_int64s": [1, 3, 5], "values_floats": [0.1, 0.2, 0.3], "default_float": 9.0}),
    ("LinearRegressor", X, {"coefficients": rows(8).tolist(), "intercepts": [0.1, 0.2], "targets": 2}),
    ("FeatureVectorizer", X, {"inputdimensions": [4]}),
]


@pytest.mark.parametrize(("op", "x", "attributes"), COLUMNS, ids=[f"{op}{i}" for i, (op, *_) in enumerate(COLUMNS)])
def test_columns_become_what_they_are_in_onnx_runtime(op: str, x: np.ndarray, attributes: dict[str, Any]) -> None:
    compare(learned(op, x, {"y": FLOAT}, **attributes), x)


def test_a_label_that_is_no_number_finds_its_key() -> None:
    x = np.array([[1, np.nan, 3]], np.float32)
    keys = {"keys_floats": [1.0, float("nan")], "values_int64s": [10, 20], "default_int64": 7}
    for version, found in ((3, 7), (4, 20)):
        proto = learned("LabelEncoder", x, {"y": INT64}, version, **keys)
        assert dynq.from_onnx(proto)(x).tolist() == [[10, found, 7]]


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_classifier(transform: str, classes: int) -> None:
    attributes: dict[str, Any] = {"post_transform": transform, "classlabels_ints": list(range(10, 10 + classes))}
    outputs, x = {"label": INT64, "scores": FLOAT}, rows(9, 4)
    compare(
        learned("LinearClassifier", x, outputs, coefficients=rows(4 * classes).tolist(), intercepts=[0.1] * classes,
                **attributes), x,
    )  # fmt: skip
    if classes == 2:
        proto = learned("LinearClassifier", x, outputs, coefficients=rows(4).tolist(), intercepts=[0.1], **attributes)
        if transform == "LOGISTIC":
            compare(proto, x)
        else:
            with pytest.raises(dynq.UnsupportedModelError, match="one row of coefficients"):
                dynq.from_onnx(proto)


def test_labels_that_are_texts_are_refused_unless_nobody_reads_them() -> None:
    attributes: dict[str, Any] = {"coefficients": rows(8).tolist(), "classlabels_strings": ["cat", "dog"]}
    proto = learned("LinearClassifier", X, {"label": TensorProto.STRING, "scores": FLOAT}, **attributes)
    with pytest.raises(dynq.UnsupportedModelError, match="take the output 'label' out of the model"):
        dynq.from_onnx(proto)
    del proto.graph.output[0]
    assert dynq.from_onnx(proto)(X).shape == (6, 2)


def test_maps_of_scores_become_the_tensor() -> None:
    proto = learned("ZipMap", X, {"y": FLOAT}, classlabels_int64s=[1, 2, 3, 4])
    proto.graph.output[0].ClearField("type")
    np.testing.assert_array_equal(dynq.from_onnx(proto)(X), X)


# ---- Trees


def grown(rng: np.random.Generator, trees: int, depth: int, modes: list[str]) -> dict[str, Any]:
    """The attributes of nodes of random trees, and the places of their leaves."""
    nodes: dict[str, list[Any]] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
                              "missing_value_tracks_true")
    }  # fmt: skip
    leaves = []
    for tree in range(trees):
        for at in range(2 ** (depth + 1) - 1):
            is_leaf = at >= 2**depth - 1 or (at > 0 and rng.random() < 0.2)
            mode = "LEAF" if is_leaf else str(rng.choice(modes))
            if is_leaf:
                leaves.append((tree, at))
            value = float(np.float32(rng.integers(-2, 3) if mode.endswith("EQ") else rng.normal()))
            row = tree, at, int(rng.integers(0, 4)), mode, value, 2 * at + 1, 2 * at + 2, int(rng.integers(0, 2))
            for name, number in zip(nodes, row if not is_leaf else (tree, at, 0, mode, 0.0, 0, 0, 0), strict=True):
                nodes[name].append(number)
    reached, rest = set(), [(tree, 0) for tree in range(trees)]
    while rest:
        tree, at = rest.pop()
        reached.add((tree, at))
        if (tree, at) not in leaves:
            rest += [(tree, 2 * at + 1), (tree, 2 * at + 2)]
    keep = [i for i, key in enumerate(zip(nodes["treeids"], nodes["nodeids"], strict=True)) if key in reached]
    result = {f"nodes_{name}": [values[i] for i in keep] for name, values in nodes.items()}
    return {**result, "leaves": [leaf for leaf in leaves if leaf in reached]}


def weighted(rng: np.random.Generator, prefix: str, leaves: list[Any], targets: list[int], positive: bool) -> Any:
    triples = [(tree, at, target) for tree, at in leaves for target in targets]
    weights = rng.standard_normal(len(triples))
    return {
        f"{prefix}_treeids": [t[0] for t in triples],
        f"{prefix}_nodeids": [t[1] for t in triples],
        f"{prefix}_ids": [t[2] for t in triples],
        f"{prefix}_weights": (np.abs(weights) / 10 if positive else weights).tolist(),
    }


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("modes", [["BRANCH_LEQ"], ["BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]])
def test_trees_give_numbers(aggregate: str, modes: list[str]) -> None:
    rng = np.random.default_rng(len(modes))
    nodes = grown(rng, 5, 4, modes)
    leaves = nodes.pop("leaves")
    weights = weighted(rng, "target", leaves, [0, 1], False)
    x = np.concatenate([rows(20, 4), np.round(rows(20, 4))])
    x[3, 1] = x[5, 0] = np.nan
    compare(
        learned("TreeEnsembleRegressor", x, {"y": FLOAT}, n_targets=2, aggregate_function=aggregate,
                base_values=[0.5, -1.0], **nodes, **weights), x,
    )  # fmt: skip


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("targets", [[0], [0, 1], [0, 1, 2]])
@pytest.mark.parametrize("positive", [True, False])
def test_trees_give_classes(transform: str, targets: list[int], positive: bool) -> None:
    rng, x = np.random.default_rng(len(targets)), rows(30, 4)
    nodes = grown(rng, 4, 3, ["BRANCH_LEQ"])
    weights = weighted(rng, "class", nodes.pop("leaves"), targets, positive)
    proto = learned(
        "TreeEnsembleClassifier", x, {"label": INT64, "scores": FLOAT}, post_transform=transform,
        classlabels_int64s=list(range(20, 20 + max(len(targets), 2))), **nodes, **weights,
    )  # fmt: skip
    if targets == [0] and transform == "SOFTMAX":
        with pytest.raises(dynq.UnsupportedModelError, match=r"post_transform = 'SOFTMAX'"):
            dynq.from_onnx(proto)
    elif len(targets) == 2:  # ONNX Runtime looks at the sign of the second score alone, ONNX's text at the larger
        got, want = dynq.from_onnx(proto).run({"x": x}), by_runtime(proto, {"x": x})
        assert error(got["scores"], want[1]) <= 1e-5
        assert np.array_equal(got["label"], 20 + want[1].argmax(1))
    else:
        compare(proto, x)
        np.testing.assert_array_equal(  # nothing of a tree is quantized
            dynq.from_onnx(proto).run({"x": x})["scores"], dynq.from_onnx(proto, quantize=False).run({"x": x})["scores"]
        )


def test_trees_of_the_newest_form_have_sets_of_members() -> None:
    tensor = numpy_helper.from_array
    x = np.array([[1.2, 3.4], [-0.12, 1.66], [4.14, 1.77], [np.nan, 1.0]], np.float32)
    proto = learned(
        "TreeEnsemble", x, {"y": FLOAT}, 5, n_targets=2, tree_roots=[0], nodes_featureids=[0, 0, 0],
        nodes_splits=tensor(np.array([3.14, np.nan, 4.2], np.float32)),
        nodes_modes=tensor(np.array([0, 6, 6], np.uint8)), nodes_truenodeids=[1, 0, 1], nodes_trueleafs=[0, 1, 1],
        nodes_falsenodeids=[2, 2, 3], nodes_falseleafs=[0, 1, 1], leaf_targetids=[0, 1, 0, 1],
        leaf_weights=tensor(np.array([5.23, 12.12, -12.23, 7.21], np.float32)),
        membership_values=tensor(np.array([1.2, 3.7, 8, 9, np.nan, 12, 7, np.nan], np.float32)),
    )  # fmt: skip
    want = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    np.testing.assert_allclose(dynq.from_onnx(proto)(x), want, rtol=1e-6)


def test_a_threshold_of_float64_divides_float32_numbers_as_it_does() -> None:
    near = np.float32(0.1)  # more than 0.1
    x = np.array([[near], [np.nextafter(near, np.float32(0))]], np.float32)
    proto = learned(
        "TreeEnsembleRegressor", x, {"y": FLOAT}, n_targets=1, nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0], target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0],
        nodes_values_as_tensor=numpy_helper.from_array(np.array([0.1, 0, 0])),
        target_weights_as_tensor=numpy_helper.from_array(np.array([1.0, 2.0])),
    )  # fmt: skip
    assert dynq.from_onnx(proto)(x).reshape(-1).tolist() == [2.0, 1.0]


def test_trees_that_go_in_a_circle_are_invalid() -> None:
    circle: dict[str, Any] = {
        "n_targets": 1, "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], "nodes_truenodeids": [1, 1, 0],
        "nodes_falsenodeids": [2, 1, 0], "nodes_values": [0.0, 0.0, 0.0], "target_treeids": [0],
        "target_nodeids": [2], "target_ids": [0], "target_weights": [1.0],
    }  # fmt: skip
    with pytest.raises(dynq.InvalidModelError, match="a cycle"):
        dynq.from_onnx(learned("TreeEnsembleRegressor", X, {"y": FLOAT}, **circle))


def test_every_op_is_read_or_refused_with_a_reason() -> None:
    from dynq.importers.onnx import ops  # noqa: F401
    from dynq.importers.onnx.convert import find
    from dynq.importers.onnx.refused import REASONS

    values_decide = {"Compress", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique"}
    for schema in onnx.defs.get_all_schemas():
        if schema.domain not in ("", DOMAIN) or schema.deprecated or schema.name in values_decide:
            continue
        name = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
        body = schema.has_function or schema.has_context_dependent_function
        known = find(schema.domain, schema.name, schema.since_version) is not None
        assert known or body or name in REASONS, name
        assert not (known and name in REASONS), name
