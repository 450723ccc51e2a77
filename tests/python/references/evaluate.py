"""A graph computed by NumPy in float64, node by node: what passes must not change."""

import functools
import math
from typing import Any

import numpy as np

from dynq.graph import Graph, Node
from dynq.passes.fold import _FUNCTIONS

Array = np.ndarray[Any, Any]


def evaluate(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """The outputs of ``graph`` by name."""
    known: dict[Any, Any] = {value: _wide(inputs[value.name]) for value in graph.inputs}
    known |= {value: _wide(value.array) for value in graph.constants()}
    graph.validate()
    for node in graph.nodes:
        arguments = [None if value is None else known[value] for value in node.inputs]
        result = _compute(node, arguments)
        for value, array in zip(node.outputs, result if isinstance(result, (list, tuple)) else [result], strict=False):
            if value is not None:
                known[value] = np.asarray(array)
    return {name: known[value] for name, value in graph.outputs}


def _wide(array: Any) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _compute(node: Node, x: list[Any]) -> Any:
    a: Any = node.attributes
    if node.op in _MATH:
        return _MATH[node.op](a, *x)
    return _FUNCTIONS[node.op](a, *x)


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


_ACTIVATIONS = {
    "none": lambda y: y,
    "relu": lambda y: np.maximum(y, 0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda y: y * _sigmoid(y),
    "gelu": _gelu,
    "gelu_tanh": lambda y: _gelu(y, "tanh"),
    "hard_swish": lambda y: y * np.clip(y / 6 + 0.5, 0, 1),
    "mish": lambda y: y * np.tanh(np.log1p(np.exp(y))),
}


def _activate(a: Any, y: Array) -> Array:
    name, alpha, beta = a.get("activation", "none"), a.get("alpha", 0.0), a.get("beta", 0.0)
    if name == "hard_sigmoid":
        y = np.clip(alpha * y + beta, 0, 1)
    elif name == "leaky_relu":
        y = np.where(y < 0, alpha * y, y)
    else:
        y = _ACTIVATIONS[name](y)
    return np.clip(y, a["min"], a["max"]) if "min" in a else y


def _linear(a: Any, x: Array, w: Array, bias: Any = None, residual: Any = None) -> Array:
    y = x @ w.T
    if bias is not None:
        y = y + bias
    if residual is not None:
        assert residual.shape == y.shape
        y = y + residual
    return _activate(a, y)


def _softmax(x: Array, axis: int) -> Array:
    with np.errstate(invalid="ignore"):  # all of them -infinity
        e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _rotary(a: Any, x: Array, c: Array, s: Array) -> Array:
    other = np.empty_like(x)
    if a.get("interleaved"):
        other[..., ::2], other[..., 1::2] = -x[..., 1::2], x[..., ::2]
    else:
        half = x.shape[-1] // 2
        other[..., :half], other[..., half:] = -x[..., half:], x[..., :half]
    return x * c + other * s


def _attention(a: Any, q: Array, k: Any = None, v: Any = None, mask: Any = None) -> Array:
    heads = a["heads"]
    if k is None:
        q, k, v = np.split(q, 3, axis=-1)
    q = _heads(q, heads)
    shared = k.shape[1] if k.ndim == 4 else k.shape[2] // max(q.shape[-1], 1)
    k, v = (_heads(t, shared).repeat(heads // shared, axis=1) for t in (k, v))
    scores = q @ k.swapaxes(-1, -2) * a.get("scale", 1 / math.sqrt(q.shape[-1]))
    if "softcap" in a:
        scores = a["softcap"] * np.tanh(scores / a["softcap"])
    flags = mask if mask is not None and mask.dtype == bool else np.True_
    if mask is not None and mask.dtype == bool:
        mask = np.where(mask, 0, -np.inf)
    p = _softmax(scores if mask is None else scores + mask, -1)
    y = np.where(np.broadcast_to(flags, p.shape).any(axis=-1, keepdims=True), p, 0) @ v
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def _heads(x: Array, heads: int) -> Array:
    """Return (B, H, S, D) of that, or of (B, S, H * D)."""
    return x if x.ndim == 4 else x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _layer_norm(a: Any, x: Array, scale: Array, bias: Any = None) -> Array:
    assert a.get("axis", -1) == -1
    d = x - x.mean(axis=-1, keepdims=True)
    y = d / np.sqrt((d * d).mean(axis=-1, keepdims=True) + a.get("epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


def _rms_norm(a: Any, x: Array, scale: Array) -> Array:
    assert a.get("axis", -1) == -1
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + a.get("epsilon", 1e-5)) * scale


def _batch_norm(a: Any, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
    scale, bias, mean, variance = (t.reshape(-1, *[1] * (x.ndim - 2)) for t in (scale, bias, mean, variance))
    return (x - mean) / np.sqrt(variance + a.get("epsilon", 1e-5)) * scale + bias


def _gemm(a: Any, x: Array, w: Array, c: Any = 0) -> Array:
    x, w = (x.T if a.get("transA") else x), (w.T if a.get("transB") else w)
    return a.get("alpha", 1.0) * (x @ w) + a.get("beta", 1.0) * c


def _reduce(function: Any) -> Any:
    return lambda a, x, axes: function(x, axis=tuple(axes.tolist()), keepdims=bool(a.get("keepdims", 1)))


_MATH: dict[str, Any] = {
    "Tile": lambda a, x, repeats: np.tile(x, repeats),
    "dynq.Linear": _linear,
    "dynq.Attention": _attention,
    "dynq.Rotary": _rotary,
    "MatMul": lambda a, x, y: x @ y,
    "Gemm": _gemm,
    "Relu": lambda a, x: np.maximum(x, 0),
    "Clip": lambda a, x, low=None, high=None: np.clip(x, low, high),
    "HardSwish": lambda a, x: _ACTIVATIONS["hard_swish"](x),
    "Mish": lambda a, x: _ACTIVATIONS["mish"](x),
    "Swish": lambda a, x: x * _sigmoid(a.get("alpha", 1.0) * x),
    "HardSigmoid": lambda a, x: np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1),
    "LeakyRelu": lambda a, x: np.where(x < 0, a.get("alpha", 0.01) * x, x),
    "Softplus": lambda a, x: np.log1p(np.exp(x)),
    "Min": lambda a, *xs: functools.reduce(np.minimum, xs),
    "GreaterOrEqual": lambda a, x, y: x >= y,
    "Tanh": lambda a, x: np.tanh(x),
    "PRelu": lambda a, x, slope: np.where(x < 0, x * slope, x),
    "Sum": lambda a, *xs: sum(xs),
    "Max": lambda a, *xs: functools.reduce(np.maximum, xs),
    "Mean": lambda a, *xs: sum(xs) / len(xs),
    "Mod": lambda a, x, y: np.mod(x, y),
    "LessOrEqual": lambda a, x, y: x <= y,
    "Sigmoid": lambda a, x: _sigmoid(x),
    "Erf": lambda a, x: _erf(x),
    "Exp": lambda a, x: np.exp(x),
    "Pow": lambda a, x, y: x**y,
    "Gelu": lambda a, x: _gelu(x, a.get("approximate", "none")),
    "IsNaN": lambda a, x: np.isnan(x),
    "Softmax": lambda a, x: _softmax(x, a.get("axis", -1)),
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "BatchNormalization": _batch_norm,
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "Pad": lambda a, x, pads: np.pad(x, np.reshape(pads, (2, -1)).T),
    "Dropout": lambda a, x, *rest: x,
    "dynq.Conv": lambda a, *x: _activate(a, _MATH["Conv"](a, *x)),
    "Conv": lambda a, x, w, b=0: np.einsum("nchw,mc->nmhw", x, w[:, :, 0, 0]) + np.reshape(b, (-1, 1, 1)),  # 1 x 1
}
