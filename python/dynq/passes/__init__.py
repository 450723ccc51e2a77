"""The passes that change a graph before it becomes a model. Each is a function on a graph, in a module of its own.

No pass changes a result by more than float rounding. A pass that is not sure leaves the graph as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..ir.graph import Graph
from ..ir.shapes import infer_all
from .activations import find_activations
from .affine import fold_affine
from .arity import check_arity
from .attention import find_attention
from .bodies import drop_captures, pass_constants
from .conv import fuse_pads, make_conv
from .dead_code import dead_code
from .epilogue import fuse_activation, fuse_clip, fuse_residual
from .expands import drop_expands
from .fold import fold_constants
from .identity import remove_identities
from .layouts import choose_layouts
from .linear import make_linear
from .normalize import find_layer_norm, find_rms_norm, find_softmax
from .pools import find_global_pools
from .recurrent import split_recurrent
from .reshapes import lift_linear
from .rotary import find_rotary
from .sizes import read_sizes_from_inputs, share_nodes
from .stacks import split_stacks
from .state import make_state, name_lengths
from .tied import share_constants
from .transposes import join_transposes, lift_transposes

__all__ = ["PASSES", "keep_caches", "name_lengths", "optimize"]

# In this order. Behind each pass, dead_code removes what nobody reads, so that the next one counts readers rightly.
PASSES = (
    infer_all,
    fold_constants,
    remove_identities,
    infer_all,
    find_global_pools,
    read_sizes_from_inputs,
    share_constants,
    share_nodes,
    drop_expands,
    find_activations,
    find_softmax,
    find_layer_norm,
    find_rms_norm,
    find_rotary,
    split_recurrent,
    make_linear,
    share_constants,  # an exporter may write one weight twice: as it is, and transposed
    make_conv,
    fold_affine,
    infer_all,
    lift_linear,
    infer_all,
    read_sizes_from_inputs,
    split_stacks,
    join_transposes,
    find_attention,
    infer_all,
    lift_linear,
    lift_transposes,
    choose_layouts,
    share_nodes,
    infer_all,
    fold_affine,
    fuse_pads,
    fuse_activation,
    fuse_residual,
    fuse_activation,
    fuse_clip,
)


def optimize(graph: Graph) -> None:
    """Rewrite a graph with dynq's own ops."""
    check_arity(graph)
    dead_code(graph)
    for step in PASSES:
        step(graph)
        dead_code(graph)
    for node in graph.nodes:  # last, for what is constant in this graph is so in bodies
        pass_constants(node)
        for body in node.bodies.values():
            optimize(body)
        drop_captures(node)
    if any(node.bodies for node in graph.nodes):
        infer_all(graph)
        dead_code(graph)


def keep_caches(graph: Graph, state: str | Mapping[str, str], most: int) -> None:
    """Make state of caches that an optimized graph has as inputs and outputs."""
    make_state(graph, state, most)
    dead_code(graph)
    infer_all(graph)
