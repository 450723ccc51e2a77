"""Ops of ai.onnx.ml on numbers, as converters of scikit-learn write them. Texts are refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....conversion import Unsupported
from ....core.arguments import FLOAT32
from ....graph import Value
from ....ir.given import ONNX_TYPES
from ..attributes import FLOAT, FLOATS, INT, INTS, TENSOR, TEXT, TEXTS, one_of, unused
from ..convert import Call, Result, constant_array, converter
from .pointwise import one
from .sizes import Dim, integers, known_size

DOMAIN = "ai.onnx.ml"


def as_float(call: Call, x: Value) -> Value:
    """Return a tensor as float32."""
    return x if x.dtype in (None, "float32") else call.node("Cast", [x], to=ONNX_TYPES["float32"])


def transformed(call: Call, scores: Value, transform: str | None = None) -> Value:
    """Return scores after the function that attribute post_transform names."""
    transform = call.attribute("post_transform", "NONE") if transform is None else transform
    if transform == "NONE":
        return scores
    if transform == "LOGISTIC":
        return call.node("Sigmoid", [scores])
    if transform == "SOFTMAX":
        return call.node("Softmax", [scores], axis=-1)
    if transform != "SOFTMAX_ZERO":
        raise Unsupported(f"attribute {call.op}.post_transform = {transform!r}; expected another than PROBIT")
    last = integers(call, -1)
    largest = call.node("ReduceMax", [scores, last], keepdims=1)
    is_zero = call.node("LessOrEqual", [call.node("Abs", [scores]), one(call, 1e-7)])
    small = call.node("Mul", [scores, call.node("Exp", [call.node("Neg", [largest])])])
    parts = call.node("Where", [is_zero, small, call.node("Exp", [call.node("Sub", [scores, largest])])])
    return call.node("Div", [parts, call.node("ReduceSum", [parts, last], keepdims=1)])


def classified(
    call: Call,
    labels: list[int] | None,
    texts: list[str] | None,
    scores: Value,
    result: Value,
    choice: Value | None = None,
) -> Result:
    """Return the labels and the scores; ``choice`` tells which of two labels it is, else the largest score does."""
    if not call.output_read(0):
        return None, result
    if labels is None:
        raise Unsupported(f"labels of {call.op} that are texts ({', '.join(map(repr, texts or []))}); {_without(call)}")
    if choice is None:
        index = call.node("ArgMax", [scores], axis=-1, keepdims=0)
    else:
        index = call.node("Cast", [choice], to=ONNX_TYPES["int64"])
    label = call.last("Gather", [call.constant(np.array(labels, np.int64), "labels"), index])
    return label, result


def _without(call: Call) -> str:
    """Return how to do without an output."""
    return f"take the output {call.outputs[0]!r} out of the model: its scores alone are numbers"


@converter("Scaler", domain=DOMAIN, offset=FLOATS, scale=FLOATS)
def scaler(call: Call) -> Result:
    offset, scale = (
        np.array(call.attribute(name, []) or [otherwise], FLOAT32) for name, otherwise in (("offset", 0), ("scale", 1))
    )
    centred = call.node("Sub", [as_float(call, call.need("X")), call.constant(offset, "offset")])
    return call.last("Mul", [centred, call.constant(scale, "scale")])


@converter("Normalizer", domain=DOMAIN, norm=one_of("MAX", "L1", "L2"))
def normalizer(call: Call) -> Result:
    """Emit ``x / norm`` of rows, and x where the norm is 0."""
    x, last = as_float(call, call.need("X")), integers(call, -1)
    op = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[call.attribute("norm", "MAX")]
    norm = call.node(op, [x, last], keepdims=1)
    is_zero = call.node("Equal", [norm, one(call, 0.0)])
    return call.last("Div", [x, call.node("Where", [is_zero, one(call, 1.0), norm])])


@converter("Binarizer", domain=DOMAIN, threshold=FLOAT)
def binarizer(call: Call) -> Result:
    x = call.need("X")
    above = call.node("Greater", [as_float(call, x), one(call, call.attribute("threshold", 0.0))])
    return call.last("Cast", [above], to=ONNX_TYPES[x.dtype or "float32"])


@converter(
    "Imputer", domain=DOMAIN, imputed_value_floats=FLOATS, imputed_value_int64s=INTS, replaced_value_float=FLOAT,
    replaced_value_int64=INT,
)  # fmt: skip
def imputer(call: Call) -> Result:
    x = call.need("X")
    if x.dtype in ("int64", "int32"):
        values = np.array(call.attribute("imputed_value_int64s", []), x.dtype)
        old: Any = np.array(call.attribute("replaced_value_int64", 0), x.dtype)
    else:
        values = np.array(call.attribute("imputed_value_floats", []), FLOAT32)
        old = np.array(call.attribute("replaced_value_float", 0.0), FLOAT32)
    if values.size == 0:
        raise ValueError("there are no imputed values of the input's type")
    is_old = call.node("IsNaN", [x]) if np.isnan(old) else call.node("Equal", [x, call.constant(old, "replaced")])
    return call.last("Where", [is_old, call.constant(values, "imputed"), x])


@converter("ArrayFeatureExtractor", domain=DOMAIN)
def extract_features(call: Call) -> Result:
    """Take columns of the last axis. A vector is a row."""
    x, columns = call.need("X"), call.node("Reshape", [call.need("Y"), integers(call, -1)])
    y = call.node("Gather", [x, columns], axis=-1)
    if call.rank("X") > 1:
        return call.last("Identity", [y])
    return call.last("Unsqueeze", [y, integers(call, 0)])


@converter("FeatureVectorizer", domain=DOMAIN, inputdimensions=unused("ints"))
def join_features(call: Call) -> Result:
    parts = [as_float(call, value) for value in call.inputs if value is not None]
    return call.last("Concat", parts, axis=-1)


@converter("ZipMap", domain=DOMAIN, classlabels_int64s=INTS, classlabels_strings=TEXTS)
def zip_map(call: Call) -> Result:
    """Pass the tensor of scores on: dynq has no dictionaries."""
    return call.last("Identity", [call.need("X")])


@converter("OneHotEncoder", domain=DOMAIN, cats_int64s=INTS, cats_strings=TEXTS, zeros=one_of(0, 1))
def one_hot(call: Call) -> Result:
    """Compare with each category. What is none of them gives zeros."""
    categories, x = call.attribute("cats_int64s", None), call.need("X")
    if not categories:
        raise Unsupported("OneHotEncoder of texts; expected categories that are numbers")
    if not call.attribute("zeros", 1):
        raise Unsupported("attribute OneHotEncoder.zeros = 0; expected 1")
    if x.dtype != "int64":
        x = call.node("Cast", [x], to=ONNX_TYPES["int64"])
    x = call.node("Unsqueeze", [x, integers(call, -1)])
    same = call.node("Equal", [x, call.constant(np.array(categories, np.int64), "categories")])
    return call.last("Cast", [same], to=ONNX_TYPES["float32"])


_keys = {
    f"{kind}_{name}": rule
    for kind in ("keys", "values")
    for name, rule in (("floats", FLOATS), ("int64s", INTS), ("strings", TEXTS))
}
_defaults = {"default_float": FLOAT, "default_int64": INT, "default_string": TEXT}


@converter("LabelEncoder", domain=DOMAIN, since=2, also={**_keys, **_defaults})
@converter(
    "LabelEncoder", domain=DOMAIN, since=4, also={**_keys, **_defaults}, keys_tensor=TENSOR, values_tensor=TENSOR,
    default_tensor=TENSOR,
)  # fmt: skip
def label_encoder(call: Call) -> Result:
    """Look each number up among the keys; the default stands for those that are none."""
    keys, values = (_numbers(call, kind) for kind in ("keys", "values"))
    if len(keys) != len(values) or len(keys) == 0:
        raise ValueError(f"there are {len(keys)} keys and {len(values)} values")
    if "default_tensor" in call.attributes:
        default = constant_array(call.attributes["default_tensor"], "default_tensor").reshape(-1)[:1]
    else:
        floats = values.dtype.kind == "f"
        default = np.array([call.attribute("default_float" if floats else "default_int64", -0.0 if floats else -1)])
    x = call.node("Unsqueeze", [call.need("X"), integers(call, -1)])
    same = call.node("Equal", [x, call.constant(keys, "keys")])
    if call.opset >= 4 and keys.dtype.kind == "f" and np.isnan(keys).any():  # a NaN finds the key that is one
        both = call.node("And", [call.node("IsNaN", [x]), call.constant(np.isnan(keys), "nan")])
        same = call.node("Or", [same, both])
    # The place of the key, from 1 on, or 0. Of equal keys the last counts.
    places = call.constant(np.arange(1, len(keys) + 1, dtype=np.int64), "places")
    place = call.node("Mul", [call.node("Cast", [same], to=ONNX_TYPES["int64"]), places])
    place = call.node("ReduceMax", [place, integers(call, -1)], keepdims=0)
    table = np.concatenate([default.astype(values.dtype), values])
    return call.last("Gather", [call.constant(table, "values"), place])


def _numbers(call: Call, kind: str) -> Any:
    """Return the keys or the values of a LabelEncoder."""
    if call.attribute(f"{kind}_int64s", None):
        return np.array(call.attributes[f"{kind}_int64s"], np.int64)
    if call.attribute(f"{kind}_floats", None):
        return np.array(call.attributes[f"{kind}_floats"], FLOAT32)
    if f"{kind}_tensor" in call.attributes:
        array = constant_array(call.attributes[f"{kind}_tensor"], f"{kind}_tensor").reshape(-1)
        if array.dtype.kind in "fi":
            return array.astype(FLOAT32) if array.dtype.kind == "f" else array
    raise Unsupported(f"LabelEncoder whose {kind} are texts; expected numbers")


@converter("LinearRegressor", domain=DOMAIN, coefficients=FLOATS, intercepts=FLOATS, post_transform=TEXT, targets=INT)
def linear_regressor(call: Call) -> Result:
    return call.last("Identity", [transformed(call, _linear(call, call.attribute("targets", 1)))])


def _linear(call: Call, rows: int) -> Value:
    """Return the product of the input with the coefficients (rows, columns), plus the intercepts."""
    coefficients = np.array(call.attribute("coefficients", []), FLOAT32)
    if rows < 1 or coefficients.size == 0 or coefficients.size % rows:
        raise ValueError(f"there are {coefficients.size} coefficients for {rows} rows")
    weight = call.constant(np.ascontiguousarray(coefficients.reshape(rows, -1).T), "coefficients")
    y = call.core("MatMul", [as_float(call, call.need("X")), weight])
    intercepts = call.attribute("intercepts", None)
    return call.node("Add", [y, call.constant(np.array(intercepts, FLOAT32), "intercepts")]) if intercepts else y


@converter(
    "LinearClassifier", domain=DOMAIN, classlabels_ints=INTS, classlabels_strings=TEXTS, coefficients=FLOATS,
    intercepts=FLOATS, multi_class=unused(), post_transform=TEXT,
)  # fmt: skip
def linear_classifier(call: Call) -> Result:
    """Emit scores and labels. With one row of coefficients the first class has the score of the other, negated.

    ONNX Runtime and ONNX's reference agree about one row only after LOGISTIC.
    """
    labels, texts = call.attribute("classlabels_ints", None), call.attribute("classlabels_strings", None)
    count, x = len(labels or texts or []), call.need("X")
    columns = Dim(x, 1).number if x.shape is not None and len(x.shape) == 2 else Dim(x, 0).number
    columns = known_size(call, x, 1) if columns is None else columns
    rows = len(call.attribute("coefficients", [])) // max(columns, 1)
    if count < 2 or rows not in (1, count) or (rows == 1 and count != 2):
        raise Unsupported(f"LinearClassifier of {count} classes with {rows} rows of coefficients")
    scores = _linear(call, rows)
    if rows == 1:
        if call.attribute("post_transform", "NONE") != "LOGISTIC":
            raise Unsupported("LinearClassifier with one row of coefficients; expected post_transform LOGISTIC")
        scores = call.node("Concat", [call.node("Neg", [scores]), scores], axis=-1)
    return classified(call, labels, texts, scores, transformed(call, scores))
