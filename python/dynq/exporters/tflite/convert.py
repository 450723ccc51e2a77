"""Write each node of a graph as operators of TensorFlow Lite. What they cannot express is refused, all at once."""

from __future__ import annotations

from collections.abc import Callable

from ...conversion import Unsupported
from ...ir.graph import Graph
from ...passes.recurrent import split_recurrent
from ..site import state
from . import control, layers, movement, pointwise, windows
from .draft import Draft, Place
from .expand import PARTS as _PARTS
from .expand import expand
from .recurrent import recurrent

__all__ = ["convert"]


PARTS = {**_PARTS, **dict.fromkeys(("dynq.LSTM", "dynq.GRU", "dynq.RNN"), recurrent)}

WRITERS: dict[str, Callable[[Place], None]] = {
    "dynq.Linear": layers.linear,
    "dynq.LinearFloat": layers.linear,
    "MatMul": layers.matmul,
    "dynq.Embedding": layers.embedding,
    "dynq.Conv": layers.conv,
    "dynq.ConvFloat": layers.conv_float,
    "Conv": layers.plain_conv,
    "ConvTranspose": layers.conv_transpose,
    **dict.fromkeys(("dynq.CachedAttention", "dynq.CrossAttention", "dynq.Positions"), state),
    "dynq.If": control.branch,
    "dynq.Loop": control.loop,
    "MaxPool": windows.pool,
    "AveragePool": windows.pool,
    "Resize": windows.resize,
    "DepthToSpace": windows.blocks,
    "SpaceToDepth": windows.blocks,
    **dict.fromkeys(pointwise.UNARY, pointwise.unary),
    **dict.fromkeys(pointwise.ARITHMETIC, pointwise.arithmetic),
    **dict.fromkeys((*pointwise.COMPARISONS, *pointwise.LOGIC), pointwise.comparison),
    **dict.fromkeys(pointwise.REDUCTIONS, pointwise.reduce),
    "Mod": pointwise.mod,
    "BitwiseXor": pointwise.bitwise,
    "IsNaN": pointwise.is_nan,
    "Where": pointwise.where,
    "Clip": pointwise.clip,
    "Cast": pointwise.cast,
    "Gelu": pointwise.gelu,
    "LeakyRelu": pointwise.leaky_relu,
    "PRelu": pointwise.prelu,
    "QuantizeLinear": pointwise.quantize,
    "DequantizeLinear": pointwise.dequantize,
    "Softmax": pointwise.softmax,
    "LogSoftmax": pointwise.softmax,
    "ArgMax": pointwise.arg,
    "ArgMin": pointwise.arg,
    "TopK": pointwise.top_k,
    "CumSum": pointwise.cumsum,
    **dict.fromkeys(("Identity", "Dropout"), movement.identity),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), movement.reshape),
    "Transpose": movement.transpose,
    "Shape": movement.shape,
    "Size": movement.size,
    "Concat": movement.concat,
    "Split": movement.split,
    "Slice": movement.slice_,
    "Pad": movement.pad,
    "Expand": movement.expand,
    "Tile": movement.tile,
    "Gather": movement.gather,
    "GatherND": movement.gather_nd,
    "OneHot": movement.one_hot,
    "Range": movement.range_,
    "ConstantOfShape": movement.constant_of_shape,
    "ReverseSequence": movement.reverse_sequence,
}


def convert(graph: Graph) -> Draft:
    """Return a draft of all nodes.

    Raises:
        UnsupportedModelError: there are nodes that cannot be written; the error has all of them.
    """
    draft = Draft(graph, _fill)
    control.set_types(graph)
    _fill(draft)
    draft.problems.refuse("the model holds what TensorFlow Lite does not express:")
    return draft


def _fill(draft: Draft) -> None:
    """Write all nodes of a draft's graph."""
    split_recurrent(draft.graph)  # of a graph that is not built
    origins = expand(draft.graph, draft.problems, PARTS)
    for node in draft.graph.nodes:
        write = WRITERS.get(node.op)
        try:
            if write is None:
                raise Unsupported(f"op {node.op}")
            write(Place(draft, node))
        except Unsupported as error:
            draft.problems.add(str(error), origins.get(node, node.name))
            draft.give_up(node)
