"""Ensembles of trees: all trees go down one step at a time, from their roots to their leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, numpy_helper

from ....conversion import Unsupported
from ....core.arguments import FLOAT32, Array
from ....graph import Value
from ..attributes import FLOATS, INT, INTS, TENSOR, TEXT, TEXTS, Rule, one_of
from ..convert import Call, Result, constant_array, converter
from .learned import DOMAIN, as_float, classified, transformed
from .pointwise import one
from .sizes import integers

_MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
_OPS = ["LessOrEqual", "Less", "GreaterOrEqual", "Greater", "Equal", "Equal"]
_NOT_EQUAL = 5
_MOST_STEPS = 1000


@dataclass
class _Trees:
    """The nodes of all trees. A leaf's branches lead to itself."""

    features: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)  # -1: a leaf
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    track_true: list[bool] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def add(self, feature: int, value: float, mode: int, true: int, false: int, track_true: bool) -> None:
        self.features.append(0 if mode < 0 else feature)
        self.values.append(0.0 if mode < 0 else value)
        self.modes.append(mode)
        self.true.append(true)
        self.false.append(false)
        self.track_true.append(track_true)

    def add_leaf(self) -> int:
        at = len(self.modes)
        self.add(0, 0.0, -1, at, at, False)
        return at

    def depth(self) -> int:
        """Return how many steps lead from a root to the deepest leaf.

        Raises:
            ValueError: a branch leads to no node, or back up.
        """
        count, level, steps = len(self.modes), set(self.roots), 0
        if not all(0 <= at < count for at in (*self.true, *self.false, *self.roots)):
            raise ValueError("a branch of a tree leads to a node that is not there")
        while level := {at for at in level if self.modes[at] >= 0}:
            steps += 1
            if steps > min(count, _MOST_STEPS):
                raise ValueError(f"a tree has a cycle, or over {_MOST_STEPS} steps")
            level = {child for at in level for child in (self.true[at], self.false[at])}
        return steps


def _threshold(value: float, mode: int) -> np.float32:
    """Return the float32 that compares with float32 numbers as ``value`` does."""
    near = np.float32(value)
    if float(near) == value or np.isnan(value):
        return near
    if mode >= 4:
        return np.float32(np.nan)  # none of them is equal
    down = mode in (0, 3)
    if (float(near) > value) == down:
        near = np.nextafter(near, np.float32(-np.inf if down else np.inf))
    return near


def _leaves(call: Call, x: Value, trees: _Trees) -> Value:
    """Return the index of the leaf that each row reaches in each tree: (rows, trees)."""
    steps = trees.depth()
    rounded = call.onnx_type("X") == TensorProto.DOUBLE  # and the numbers that are compared with them, too
    thresholds = np.array(
        [v if rounded else _threshold(v, mode) for v, mode in zip(trees.values, trees.modes, strict=True)], FLOAT32
    )
    tables: dict[str, Array] = {
        "features": np.array(trees.features, np.int64),
        "thresholds": thresholds,
        "modes": np.array(trees.modes, np.int64),
        "true": np.array(trees.true, np.int64),
        "false": np.array(trees.false, np.int64),
        "track_true": np.array(trees.track_true, bool),
    }
    roots = np.array(trees.roots, np.int64)
    constants = {name: call.constant(table, name) for name, table in tables.items()}
    used = sorted({mode for mode in trees.modes if mode >= 0})
    at: Value | None = None

    def here(name: str) -> Value:
        """Return what a table has for the nodes that the rows have reached."""
        if at is None:
            return call.constant(tables[name][roots], f"first_{name}")
        return call.node("Gather", [constants[name], at])

    for _ in range(steps):
        value = (
            call.node("Gather", [x, here("features")], axis=1)
            if at is None
            else call.node("GatherElements", [x, here("features")], axis=1)
        )
        condition: Value | None = None
        for mode in used:
            holds = call.node(_OPS[mode], [value, here("thresholds")])
            if mode == _NOT_EQUAL:
                holds = call.node("Not", [holds])
            if len(used) > 1:
                is_mode = call.node("Equal", [here("modes"), call.constant(np.array(mode, np.int64))])
                holds = call.node("And", [is_mode, holds])
            condition = holds if condition is None else call.node("Or", [condition, holds])
        if any(trees.track_true):
            missing = call.node("And", [call.node("IsNaN", [value]), here("track_true")])
            condition = call.node("Or", [condition, missing])
        at = call.node("Where", [condition, here("true"), here("false")])
    if at is None:  # leaves alone: one row for each of the input
        rows = call.node("Shape", [x], start=0, end=1)
        shape = call.node("Concat", [rows, integers(call, len(roots))], axis=0)
        return call.node("Expand", [call.constant(roots, "roots"), shape])
    return at


def _scores(call: Call, trees: _Trees, weights: Array, aggregate: str, base: Array | None) -> Value:
    """Return the sums, means or extremes of the leaves' weights (nodes, targets), NaN where a leaf has none."""
    leaves = _leaves(call, as_float(call, call.need("X")), trees)
    none = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
    # Along the last axis, since rows of a table of floats are an embedding, which would become int8.
    table = call.constant(np.ascontiguousarray(np.where(np.isnan(weights), none, weights).T, FLOAT32), "weights")
    reduce = {"MIN": "ReduceMin", "MAX": "ReduceMax"}.get(aggregate, "ReduceSum")
    y = call.node(reduce, [call.node("Gather", [table, leaves], axis=1), integers(call, 2)], keepdims=0)
    y = call.node("Transpose", [y], perm=[1, 0])
    if aggregate == "AVERAGE":
        y = call.node("Div", [y, one(call, len(trees.roots))])
    return y if base is None else call.node("Add", [y, call.constant(base.astype(FLOAT32), "base")])


_nodes: dict[str, Rule] = {
    "base_values": FLOATS, "nodes_falsenodeids": INTS, "nodes_featureids": INTS, "nodes_hitrates": FLOATS,
    "nodes_missing_value_tracks_true": INTS, "nodes_modes": TEXTS, "nodes_nodeids": INTS, "nodes_treeids": INTS,
    "nodes_truenodeids": INTS, "nodes_values": FLOATS, "post_transform": TEXT,
}  # fmt: skip
_node_tensors = {f"{name}_as_tensor": TENSOR for name in ("base_values", "nodes_hitrates", "nodes_values")}


def _floats(call: Call, name: str) -> Array | None:
    """Return numbers that an attribute has as floats or as a tensor."""
    tensor = call.attribute(f"{name}_as_tensor", None)
    if tensor is not None:
        constant_array(tensor, f"{name}_as_tensor of node {call.name!r}")  # its checks; the array would be float32
        numbers: Array = numpy_helper.to_array(tensor).astype(np.float64).reshape(-1)
        return numbers
    values = call.attribute(name, None)
    return None if not values else np.array(values, np.float64)


def _read(call: Call) -> tuple[_Trees, dict[tuple[int, int], int]]:
    """Read the trees of the older ops: a node has the number of its tree and one of its own."""
    trees, names = _Trees(), [f"nodes_{name}" for name in ("treeids", "nodeids", "featureids", "modes")]
    columns = [call.attribute(name, []) for name in (*names, "nodes_truenodeids", "nodes_falsenodeids")]
    values = _floats(call, "nodes_values")
    tracks = call.attribute("nodes_missing_value_tracks_true", None) or [0] * len(columns[0])
    columns += [[] if values is None else values.tolist(), tracks]
    if len({len(column) for column in columns}) != 1 or not columns[0]:
        raise ValueError(f"the attributes of nodes have {[len(column) for column in columns]} elements")
    at = {(tree, node): i for i, (tree, node) in enumerate(zip(columns[0], columns[1], strict=True))}
    if len(at) != len(columns[0]):
        raise ValueError("two nodes of a tree have the same number")
    children: set[int] = set()
    for i, (tree, _, feature, mode, true, false, value, track) in enumerate(zip(*columns, strict=True)):
        if mode == "LEAF":
            trees.add_leaf()
            continue
        if mode not in _MODES:
            raise Unsupported(f"attribute {call.op}.nodes_modes holds {mode!r}; expected LEAF or {', '.join(_MODES)}")
        if (tree, true) not in at or (tree, false) not in at:
            raise ValueError(f"node {i} of the trees has a branch to a node that is not there")
        branches = at[tree, true], at[tree, false]
        children.update(branches)
        trees.add(feature, value, _MODES.index(mode), *branches, bool(track))
    trees.roots = [i for i in range(len(columns[0])) if i not in children]
    if len(trees.roots) != len(set(columns[0])):
        raise ValueError(f"{len(set(columns[0]))} trees have {len(trees.roots)} roots")
    return trees, at


def _weights(call: Call, prefix: str, ids: list[int], at: dict[tuple[int, int], int], targets: int) -> Array:
    """Return what each leaf adds to each target: NaN where it adds nothing."""
    weights, table = _floats(call, f"{prefix}_weights"), np.full((len(at), targets), np.nan)
    keys = list(zip(call.attribute(f"{prefix}_treeids", []), call.attribute(f"{prefix}_nodeids", []), strict=True))
    if weights is None or not len(keys) == len(ids) == len(weights):
        raise ValueError(f"the attributes {prefix}_* differ in their numbers of elements")
    for key, target, weight in zip(keys, ids, weights, strict=True):
        if key not in at or not 0 <= target < targets:
            raise ValueError(f"a weight is of node {key} and target {target}, which is not there")
        old = table[at[key], target]
        table[at[key], target] = weight if np.isnan(old) else old + weight
    return table


@converter(
    "TreeEnsembleRegressor", domain=DOMAIN, also=_nodes, target_ids=INTS, target_nodeids=INTS, target_treeids=INTS,
    target_weights=FLOATS, n_targets=INT, aggregate_function=one_of("SUM", "AVERAGE", "MIN", "MAX"),
)  # fmt: skip
@converter(
    "TreeEnsembleRegressor", domain=DOMAIN, since=3, also={**_nodes, **_node_tensors}, target_ids=INTS,
    target_nodeids=INTS, target_treeids=INTS, target_weights=FLOATS, target_weights_as_tensor=TENSOR, n_targets=INT,
    aggregate_function=one_of("SUM", "AVERAGE", "MIN", "MAX"),
)  # fmt: skip
def regressor(call: Call) -> Result:
    trees, at = _read(call)
    weights = _weights(call, "target", call.attribute("target_ids", []), at, call.attribute("n_targets", 1))
    y = _scores(call, trees, weights, call.attribute("aggregate_function", "SUM"), _floats(call, "base_values"))
    return call.last("Identity", [transformed(call, y)])


_classes = {
    "class_ids": INTS, "class_nodeids": INTS, "class_treeids": INTS, "class_weights": FLOATS,
    "classlabels_int64s": INTS, "classlabels_strings": TEXTS,
}  # fmt: skip


@converter("TreeEnsembleClassifier", domain=DOMAIN, also={**_nodes, **_classes})
@converter(
    "TreeEnsembleClassifier", domain=DOMAIN, since=3, also={**_nodes, **_node_tensors, **_classes},
    class_weights_as_tensor=TENSOR,
)  # fmt: skip
def classifier(call: Call) -> Result:
    """Emit labels and scores. With weights for one of two classes, the score of the other is made of its score."""
    trees, at = _read(call)
    labels, texts = call.attribute("classlabels_int64s", None), call.attribute("classlabels_strings", None)
    count, ids, base = len(labels or texts or []), call.attribute("class_ids", []), _floats(call, "base_values")
    if count < 1:
        raise ValueError("there are no classlabels")
    if count > 2 or len(set(ids)) > 1:
        scores = _scores(call, trees, _weights(call, "class", ids, at, count), "SUM", base)
        return classified(call, labels, texts, scores, transformed(call, scores))
    weights = _weights(call, "class", [0] * len(ids), at, 1)
    single = _scores(call, trees, weights, "SUM", None if base is None else base[-1:])
    if count == 1:
        raise Unsupported(f"{call.op} of one class")
    positive, transform = bool((np.nan_to_num(weights) >= 0).all()), call.attribute("post_transform", "NONE")
    if transform not in ("NONE", "LOGISTIC"):
        raise Unsupported(f"attribute {call.op}.post_transform = {transform!r} of two classes with one score")
    if positive and transform == "NONE":
        other = call.node("Sub", [one(call, 1.0), single])
    else:
        other = call.node("Neg", [single])
    scores = call.node("Concat", [other, single], axis=1)
    limit = one(call, 0.5 if positive else 0.0)
    choice = call.node("Squeeze", [call.node("Greater", [single, limit]), integers(call, 1)])
    return classified(call, labels, texts, scores, transformed(call, scores), choice)


@converter(
    "TreeEnsemble", domain=DOMAIN, since=5, aggregate_function=INT, leaf_targetids=INTS, leaf_weights=TENSOR,
    membership_values=TENSOR, n_targets=INT, nodes_falseleafs=INTS, nodes_falsenodeids=INTS, nodes_featureids=INTS,
    nodes_hitrates=TENSOR, nodes_missing_value_tracks_true=INTS, nodes_modes=TENSOR, nodes_splits=TENSOR,
    nodes_trueleafs=INTS, nodes_truenodeids=INTS, post_transform=one_of(0, 1, 2, 3), tree_roots=INTS,
)  # fmt: skip
def ensemble(call: Call) -> Result:
    """Test whether a number is a member of a set by a chain of nodes, one for each member."""

    def tensor(name: str) -> Array:
        constant_array(call.attributes[name], f"{name} of node {call.name!r}")
        numbers: Array = numpy_helper.to_array(call.attributes[name]).reshape(-1)
        return numbers

    modes, splits, weights = tensor("nodes_modes"), tensor("nodes_splits"), tensor("leaf_weights")
    features, count = call.attributes["nodes_featureids"], len(modes)
    tracks = call.attribute("nodes_missing_value_tracks_true", None) or [0] * count
    branches = {
        kind: list(zip(call.attributes[f"nodes_{kind}nodeids"], call.attributes[f"nodes_{kind}leafs"], strict=True))
        for kind in ("true", "false")
    }
    targets = call.attributes["leaf_targetids"]
    if not count == len(splits) == len(features) == len(tracks) == len(branches["true"]) == len(branches["false"]):
        raise ValueError("the attributes of nodes differ in their numbers of elements")
    if len(targets) != len(weights):
        raise ValueError(f"there are {len(targets)} leaf_targetids and {len(weights)} leaf_weights")
    sets = _member_sets(tensor("membership_values")) if "membership_values" in call.attributes else []
    trees, behind = _Trees(), count + len(weights)  # nodes, leaves, then what chains need
    extra: list[tuple[int, float, int, int, int, bool]] = []
    members = iter(sets)
    for i in range(count):
        true, false = (at + count if is_leaf else at for at, is_leaf in (branches["true"][i], branches["false"][i]))
        if modes[i] <= _NOT_EQUAL:
            trees.add(features[i], float(splits[i]), int(modes[i]), true, false, bool(tracks[i]))
            continue
        values = next(members, None)
        if modes[i] != _NOT_EQUAL + 1 or not values:
            raise ValueError(f"node {i} has mode {modes[i]}, or no membership_values")
        following = [*(behind + len(extra) + j for j in range(len(values) - 1)), false]
        trees.add(features[i], values[0], 4, true, following[0], bool(tracks[i]))
        extra += [
            (features[i], value, 4, true, following[j + 1], bool(tracks[i])) for j, value in enumerate(values[1:])
        ]
    for _ in weights:
        trees.add_leaf()
    for node in extra:
        trees.add(*node)
    trees.roots = list(call.attributes["tree_roots"])
    n = call.attribute("n_targets", 1)
    if not trees.roots or not all(0 <= target < n for target in targets):
        raise ValueError(f"leaf_targetids has to be from 0 to n_targets, {n}, and tree_roots not empty")
    table = np.full((len(trees.modes), n), np.nan)
    table[np.arange(len(weights)) + count, targets] = weights
    kinds = ["AVERAGE", "SUM", "MIN", "MAX"]
    aggregate = call.attribute("aggregate_function", 1)
    if not 0 <= aggregate < len(kinds):
        raise ValueError(f"aggregate_function is {aggregate}; expected 0 to 3")
    transform = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"][call.attribute("post_transform", 0)]
    return call.last("Identity", [transformed(call, _scores(call, trees, table, kinds[aggregate], None), transform)])


def _member_sets(values: Array) -> list[list[float]]:
    """Split numbers at each NaN."""
    sets: list[list[float]] = [[]]
    for value in values.tolist():
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    return sets
