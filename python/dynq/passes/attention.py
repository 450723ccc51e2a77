"""Replace attention, however it is spelled, by one dynq.Attention: softmax(q k^T * scale + masks) v.

What is between the two products is followed, not compared with a pattern (scores.py). q, k and v are read where they
lie:

- as rows (B, S, H * D), or (S, B, H * D), where they are cut from such by Reshape and Transpose alone;
- else as heads (B, H, S, D), behind what made them so: rotary embeddings, keys of earlier runs;
- without the Expand, where several heads of q share one of k and v.

Where batch and heads are one axis and nothing tells the heads, each is a batch of one head. Softmax gives NaN where a
bool mask leaves no key; torch replaces these by zeros.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..ir.dims import product
from ..ir.graph import Graph
from ..ir.values import Dim, Node, Shape, Value
from .axes import Axes, behind
from .heads import FLAT, ROWS, Rows, form_of, heads_of, new_node, reshaped, rows_of, transposed
from .masks import mask_of, placed
from .rewrite import Uses, close, is_op, scalar
from .scores import Scores, keeps_rows, scores_of
from .transposes import moves_ones

__all__ = ["find_attention"]

_STEPS = 5  # nodes between the product with v and the rows of all heads


def find_attention(graph: Graph) -> None:
    uses = Uses(graph)
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        _rewrite(uses, softmax)
    graph.sort()


@dataclasses.dataclass(frozen=True)
class _Site:
    """One attention: its two products, and the sizes of its parts."""

    uses: Uses
    scores: Scores
    product: Node
    batch: Dim
    heads: int
    rows: Dim
    keys: Dim


def _rewrite(uses: Uses, softmax: Node) -> None:
    x = softmax.need("input")
    if x.shape is None or len(x.shape) < 3 or softmax.attributes.get("axis", -1) not in (-1, len(x.shape) - 1):
        return
    guard = _zeros_for_nan(uses, softmax)
    product = _product(uses, softmax if guard is None else guard)
    scores = None if product is None else scores_of(uses, x)
    site = None if scores is None or product is None else _site(uses, scores, product)
    if site is None or scores is None or product is None:
        return
    masks = [placed(uses, mask, scores.product.need("A"), site.batch, site.heads) for mask in scores.masks]
    if any(mask is None for mask in masks):
        return
    known, mask = mask_of(uses, [m for m in masks if m is not None], guard is not None)
    operands = _operands(site) if known else None
    if operands is None:
        return
    inputs, size, scale = operands
    attributes: dict[str, Any] = {"heads": site.heads, "softcap": scores.softcap}
    if not (isinstance(size, int) and size and close(scale, 1 / math.sqrt(size))):
        attributes["scale"] = scale
    _write(site, [*inputs, mask], attributes)


def _product(uses: Uses, weights: Node) -> Node | None:
    """Return the product of the weights and v, behind views that keep rows and columns."""
    start = value = weights.outputs[0]
    for _ in range(_STEPS):
        reader = uses.only_reader(value)
        if reader is None or value is None or start is None or reader.first is not value:
            return None
        if reader.op == "MatMul":
            return reader if value is start or keeps_rows(start, value) else None
        if reader.op not in ("Reshape", "Squeeze", "Unsqueeze", "Flatten") and not moves_ones(reader):
            return None
        value = reader.outputs[0]
    return None


def _site(uses: Uses, scores: Scores, product: Node) -> _Site | None:
    """Return the sizes; None if they are not known well enough."""
    q, k, v = scores.product.need("A"), scores.product.need("B"), product.need("B")
    shapes = [value.shape for value in (q, k, v)]
    result = scores.product.outputs[0]
    if any(shape is None or len(shape) < 3 for shape in shapes) or result is None or result.shape is None:
        return None
    rank = len(result.shape)
    if any(len(value.shape or ()) != rank for value in (q, k)) or (rank > 3 and None in result.shape[:-2]):
        return None
    batch, heads = _lead(scores, q, result.shape)
    return _Site(uses, scores, product, batch, heads, result.shape[-2], result.shape[-1]) if heads else None


def _lead(scores: Scores, q: Value, shape: Shape) -> tuple[Dim, int]:
    """Return the batch and the heads into which the leading axes of the product fall."""
    if len(shape) >= 4:
        heads = shape[-3]
        batch = product(shape[:-3])
        return batch, heads if isinstance(heads, int) and batch is not None else 0
    for lead in scores.lead:  # a view tells heads from the batch
        if len(lead) == 2 and isinstance(lead[1], int) and lead[0] is not None:
            return lead[0], lead[1]
    both, size = shape[0], (q.shape or (None,))[-1]
    heads = heads_of(q, size)
    if heads and not any(len(mask.value.shape or ()) > 2 for mask in scores.masks):
        batch = both // heads if isinstance(both, int) else None
        found = rows_of(q, [["b", "h"], ["s"], ["d"]], {"b": batch, "h": heads, "s": shape[1], "d": size})
        if found is not None and found.batch is not None:
            return found.batch, heads
    return both, 0 if both is None else 1


def _zeros_for_nan(uses: Uses, softmax: Node) -> Node | None:
    """Return the Where of ``where(isnan(p), 0, p)``."""
    p = softmax.outputs[0]
    readers = [] if p is None or p in uses.outputs else uses.readers.get(p, [])
    test = next((node for node in readers if node.op == "IsNaN"), None)
    where = uses.only_reader(None if test is None else test.outputs[0])
    if test is None or len(readers) != 2 or where is None or where.op != "Where" or where not in readers:
        return None
    if where.need("condition") is not test.outputs[0]:
        return None
    return where if scalar(where.need("X")) == 0 and where.need("Y") is p else None


# ---- q, k and v ----


def _operands(site: _Site) -> tuple[list[Value | None], Dim, float] | None:
    """Return q, k and v as the op takes them, the size of a head and the scale."""
    uses, scores = site.uses, site.scores
    q_value, v_value = scores.product.need("A"), site.product.need("B")
    k_value, v_shape = scores.product.need("B"), site.product.need("B").shape or ()
    size = (q_value.shape or ())[-1]
    q_of, k_of, v_of = (
        _rows(site, value, axes, value.shape or ())
        for value, axes in ((q_value, ["s", "d"]), (k_value, ["d", "s"]), (v_value, ["s", "d"]))
    )
    factor = scores.factor
    if q_of is not None and not scores.factors:
        q: Value | None = _in_order(uses, q_of)
        factor *= q_of.factor
    else:
        for by in scores.factors:
            q_value = new_node(uses, "Mul", [q_value, by], "scaled", q_value.shape)
            q_value.dtype = "float32"
        q = _as_heads(site, q_value, site.heads, (site.rows, size))
    if v_of is not None and v_of.factor != 1:
        v_of = None
    k_heads, v_heads = _shared(k_value, -1), _shared(v_value, -2)
    if k_heads is not None and v_heads is not None and _same_heads(k_heads, v_heads):
        k, of_k = _shared_operand(site, k_heads, ["d", "s"])
        v, _ = _shared_operand(site, v_heads, ["s", "d"], scaled=False)
        factor *= of_k
    else:
        if k_of is not None:
            k = _in_order(uses, k_of)
            factor *= k_of.factor
        else:
            last = len(k_value.shape or ())
            flipped = transposed(uses, k_value, [*range(last - 2), last - 1, last - 2])
            k = _as_heads(site, flipped, site.heads, (site.keys, size))
        v = _in_order(uses, v_of) if v_of is not None else _as_heads(site, v_value, site.heads, tuple(v_shape[-2:]))
    batches = {None if x is None or x.shape is None else x.shape[0] for x in (q, k, v)}
    if None in (q, k, v) or len(batches) != 1 or None in batches:
        return None
    lengths = {_length(x) for x in (k, v)}
    return ([q, k, v], size, factor) if len(lengths) == 1 and None not in lengths else None


def _length(value: Value | None) -> Dim:
    return None if value is None or value.shape is None else value.shape[-2]


def _rows(site: _Site, value: Value, inner: list[str], shape: Shape) -> Rows | None:
    """Return the rows that a value is cut from, if they have the batch and the heads of the site."""
    if len(shape) == 4:
        outer: Axes = [["b"], ["h"]]
    elif len(shape) == 3:
        outer = [["b", "h"]]
    else:
        return None
    axes = [*outer, *([part] for part in inner)]
    sizes: dict[str, Dim] = {"b": site.batch, "h": site.heads, inner[0]: shape[-2], inner[1]: shape[-1]}
    if len(shape) == 4 and shape[:2] != (site.batch, site.heads):
        return None
    found = rows_of(value, axes, sizes)
    return found if found is not None and found.batch == site.batch and found.length == sizes["s"] else None


def _in_order(uses: Uses, part: Rows) -> Value:
    """Return the value as (B, S, H * D)."""
    return transposed(uses, part.value, [1, 0, 2]) if part.swapped else part.value


def _as_heads(site: _Site, value: Value, heads: int, inner: tuple[Dim, ...]) -> Value | None:
    """Return the value as (B, H, S, D), or as (B, S, D) where there is one head."""
    shape = value.shape or ()
    if len(shape) == 3 and heads == 1 and shape[0] == site.batch:
        return value
    if len(shape) == 4:
        return value if shape[0] == site.batch and shape[1] in (heads, 1) else None
    return reshaped(site.uses, value, (site.batch, heads, *inner))


def _shared(value: Value, rows: int) -> Value | None:
    """Return the (B, G, T, D), or its transposed form, of which each head serves several of (B, H, T, D)."""
    steps: list[Node] = []
    for _ in range(4):
        node = value.producer
        if node is None or node.outputs[0] is not value or node.op not in ("Transpose", "Reshape", "Mul", "Div"):
            return None
        if node.op == "Reshape":
            break
        if node.op != "Transpose" or node.attributes.get("perm") != [0, 1, 3, 2]:
            return None
        steps.append(node)
        value = node.need("data")
    expand = is_op(node.need("data"), "Expand") if node is not None else None
    wide = None if expand is None else expand.outputs[0]
    inner = None if expand is None else is_op(expand.first, "Unsqueeze", "Reshape")
    source = None if inner is None else inner.first
    if wide is None or source is None or len(steps) > 1 or (rows == -1) != (len(steps) == 1):
        return None
    a, b, c = source.shape, wide.shape, value.shape
    thin = None if inner is None or inner.outputs[0] is None else inner.outputs[0].shape
    if a is None or b is None or c is None or thin is None or (len(a), len(b), len(c), len(thin)) != (4, 5, 4, 5):
        return None
    same = a[:2] == b[:2] == thin[:2] and a[2:] == b[3:] == thin[3:] == c[2:] and thin[2] == 1
    numbers = isinstance(a[1], int) and isinstance(b[2], int) and isinstance(c[1], int)
    return source if same and None not in a and numbers and a[1] * b[2] == c[1] and a[0] == c[0] else None  # type: ignore[operator]


def _same_heads(a: Value, b: Value) -> bool:
    return (a.shape or ())[1] == (b.shape or ())[1]


def _shared_operand(site: _Site, value: Value, inner: list[str], scaled: bool = True) -> tuple[Value | None, float]:
    """Return shared heads as rows, or as they are, and a factor on them."""
    shape = value.shape or ()
    sizes: dict[str, Dim] = {"b": shape[0], "h": shape[1], "s": shape[2], "d": shape[3]}
    found = rows_of(value, [["b"], ["h"], ["s"], ["d"]], sizes)
    if found is not None and found.batch == shape[0] and found.length == shape[2] and (scaled or found.factor == 1):
        return _in_order(site.uses, found), found.factor
    return value, 1.0


# ---- The result ----


def _write(site: _Site, inputs: list[Value | None], attributes: dict[str, Any]) -> None:
    """Put the op in the place of the product with v, or of the rows that are made of it."""
    uses, product = site.uses, site.product
    output = product.outputs[0]
    assert output is not None
    v_size = (site.product.need("B").shape or (None,))[-1]
    end, form = _end(site, v_size)
    if end is not None and form == ROWS[0]:
        uses.set_inputs(end, inputs)
        end.op, end.attributes = "dynq.Attention", {k: v for k, v in attributes.items() if v is not None}
        return
    name = f"{product.name}.attention"
    width = site.heads * v_size if isinstance(v_size, int) else None
    y = new_node(uses, "dynq.Attention", inputs, name, (site.batch, site.rows, width), **attributes)
    y.dtype = "float32"
    if end is None or form is None:
        _back(site, y, output, v_size)
        return
    if form[0][0] == "s":
        y = transposed(uses, y, [1, 0, 2])
    if form in FLAT:
        uses.set_input(end, "data", y)
    else:
        assert end.outputs[0] is not None
        uses.replace(end.outputs[0], y)
        uses.remove(end)


def _back(site: _Site, y: Value, output: Value, size: Dim) -> None:
    """Make what the product gave, (B, H, S, E) or batch and heads in one, of the rows."""
    uses, shape = site.uses, output.shape or ()
    if site.heads > 1:
        split = np.array([0, 0, site.heads, size if isinstance(size, int) else -1], np.int64)
        y = new_node(uses, "Reshape", [y, split], "heads", (site.batch, site.rows, site.heads, size))
        y.dtype = "float32"
        y = transposed(uses, y, [0, 2, 1, 3])
    elif len(shape) == 4:
        y = new_node(uses, "Unsqueeze", [y, np.array([1], np.int64)], "heads", shape)
        y.dtype = "float32"
    if len(shape) not in (3 if site.heads == 1 else 4, 4):
        made = reshaped(uses, y, shape)
        assert made is not None
        y = made
    uses.replace(output, y)


def _end(site: _Site, size: Dim) -> tuple[Node | None, Axes | None]:
    """Return the node that gives the rows of all heads, and their form."""
    uses, product = site.uses, site.product
    output = product.outputs[0]
    shape = None if output is None else output.shape
    if shape is None or len(shape) not in (3, 4):
        return None, None
    axes: Axes | None = [["b"], ["h"], ["s"], ["d"]] if len(shape) == 4 else [["b", "h"], ["s"], ["d"]]
    sizes: dict[str, Dim] = {"b": site.batch, "h": site.heads, "s": site.rows, "d": size}
    node: Node | None = product
    for _ in range(_STEPS):
        node = uses.only_reader(None if node is None else node.outputs[0])
        if node is None or node.op not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze") or axes is None:
            return None, None
        axes = behind(node, axes, sizes)
        result = node.outputs[0]
        if axes is None or result is None:
            return None, None
        form = form_of(axes, sizes, ROWS + FLAT) if node.op == "Reshape" else None
        if form is not None and (len(form) == 3 or _plain(node)):
            return node, form
    return None, None


def _plain(node: Node) -> bool:
    """Return whether the target of a Reshape says all sizes by itself: it is to reshape another value."""
    target = node.array("shape")
    return target is not None and 0 not in target
