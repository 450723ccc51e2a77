"""What is done to a graph before it becomes a model: each pass is a function on a graph, in a module of its own.

None changes a result by more than float rounding; one that is not sure leaves the graph as it is.
"""

from __future__ import annotations

from ..ir import Graph
from ..shapes import infer_all
from .activations import find_gelu
from .arity import check_arity
from .attention import find_attention
from .batch_norm import fold_batch_norm
from .conv import fuse_conv_bias, make_conv
from .dead_code import dead_code
from .epilogue import fuse_activation, fuse_clip, fuse_residual
from .expands import drop_expands
from .fold import fold_constants
from .identity import remove_identities
from .linear import fuse_bias, make_linear
from .normalize import find_layer_norm, find_softmax
from .recurrent import split_recurrent
from .reshapes import lift_linear
from .sizes import read_sizes_from_inputs, share_nodes
from .stacks import split_stacks
from .tied import share_constants
from .transposes import lift_transposes

__all__ = ["PASSES", "optimize"]

# In this order; what a pass leaves unread, dead_code takes away before the next one looks who reads what.
PASSES = (
    infer_all,
    fold_constants,
    remove_identities,
    infer_all,
    read_sizes_from_inputs,
    share_constants,
    share_nodes,
    drop_expands,
    find_gelu,
    find_softmax,
    find_layer_norm,
    split_recurrent,
    make_linear,
    share_constants,  # a weight that an exporter wrote once as it is and once transposed
    make_conv,
    fuse_bias,
    fuse_conv_bias,
    fold_batch_norm,
    infer_all,
    lift_linear,
    infer_all,
    read_sizes_from_inputs,
    split_stacks,
    find_attention,
    infer_all,
    lift_linear,
    lift_transposes,
    infer_all,
    fuse_activation,
    fuse_residual,
    fuse_activation,
    fuse_clip,
)


def optimize(graph: Graph) -> None:
    """Bring a graph into dynq's own ops."""
    check_arity(graph)
    dead_code(graph)
    for step in PASSES:
        step(graph)
        dead_code(graph)
