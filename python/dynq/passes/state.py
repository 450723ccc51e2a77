"""Make state of caches that are inputs and outputs: past_key_values.0.key goes in, present.0.key comes out.

Each pair is the keys or the values of one attention, (batch, heads, positions, size), to which the new ones are joined.
The attention becomes a dynq.CachedAttention, with the mask that it had. What reads the size of a cache reads the
positions that the session keeps. All sequences of a batch have one length then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ir.graph import Graph
from ..ir.shapes import infer_all
from ..ir.values import Node, Value
from .rewrite import Uses

__all__ = ["make_state", "name_lengths"]


_IDS = ("input_ids", "inputs_embeds", "decoder_input_ids")


@dataclasses.dataclass(frozen=True)
class _Cache:
    """An input that an output continues: what is joined to it, and the attention that reads both."""

    past: Value
    output: str
    present: Value
    new: Value
    reader: Node
    place: str  # "k" or "v" of the reader


def name_lengths(graph: Graph, state: str | Mapping[str, str]) -> None:
    """Give the positions of a cache with new ones behind it a name, before attention is looked for."""
    results = dict(graph.outputs)
    for past, output in _pairs(graph, state).items():
        present, shape = results[output], past.shape
        join = present.producer
        if join is None or join.op != "Concat" or shape is None or len(shape) != 4 or present.shape is None:
            continue
        other = next((value for value in join.inputs if value is not past and value is not None), past)
        if present.shape[2] is None and other.shape is not None:
            present.shape = (*present.shape[:2], f"{shape[2]} + {other.shape[2]}", present.shape[3])
    infer_all(graph)


def make_state(graph: Graph, state: str | Mapping[str, str], most: int) -> None:
    """Rewrite a graph whose attention has been found.

    Args:
        state: what the names of caches begin with; outputs end as these inputs do. Or outputs by input.
        most: the positions that a sequence can have.

    Raises:
        ValueError: there are no such caches, or one is no cache of attention.
    """
    pairs = _pairs(graph, state)
    names = set(pairs.values())
    results = dict(graph.outputs)
    graph.outputs = [(name, value) for name, value in graph.outputs if name not in names]
    uses = Uses(graph)
    caches = [_cache(uses, past, name, results[name]) for past, name in pairs.items()]
    graph.inputs = [value for value in graph.inputs if value not in pairs]
    readers: dict[Node, dict[str, _Cache]] = {}
    for cache in caches:
        readers.setdefault(cache.reader, {})[cache.place] = cache
    ids = _ids(graph, next(iter(readers)))
    for node, parts in readers.items():
        if set(parts) != {"k", "v"}:
            (cache,) = parts.values()
            raise ValueError(f"state: {cache.past.name!r} is a cache, and node {node.name!r} has no other")
        states = [cache.past for cache in (parts["k"], parts["v"])]
        inputs = [node.need("q"), parts["k"].new, parts["v"].new, *states, None, node.input("mask")]
        attributes = {name: value for name, value in node.attributes.items() if name != "quantize"}
        uses.set_inputs(node, inputs)
        node.op, node.attributes = "dynq.CachedAttention", {**attributes, "causal": 0}
    _read_lengths(uses, ids, caches)
    for cache in caches:
        cache.past.shape, cache.past.is_state = _sizes(cache, most), True
        graph.states.append(cache.past)
    graph.sort()


def _pairs(graph: Graph, state: str | Mapping[str, str]) -> dict[Value, str]:
    inputs, outputs = {value.name: value for value in graph.inputs}, [name for name, _ in graph.outputs]
    if isinstance(state, Mapping):
        named = dict(state)
    else:
        named = {}
        for name in inputs:
            if name.startswith(state) and name != state:
                ends = [output for output in outputs if output.endswith(name[len(state) :])]
                if len(ends) != 1:
                    raise ValueError(f"state: {len(ends)} outputs end as {name!r} does; give pairs of names")
                named[name] = ends[0]
    if not named:
        raise ValueError(f"state: no input begins with {state!r}; the inputs are {', '.join(inputs)}")
    for name, output in named.items():
        if name not in inputs or output not in outputs:
            raise ValueError(f"state: the model has no {'input' if name not in inputs else 'output'} "
                             f"{name if name not in inputs else output!r}")  # fmt: skip
    return {inputs[name]: output for name, output in named.items()}


def _cache(uses: Uses, past: Value, output: str, present: Value) -> _Cache:
    """Return what a pair is, if it is the keys or values of an attention."""
    join = present.producer
    axis = None if join is None or join.op != "Concat" else join.attributes["axis"]
    rank = len(past.shape or ())
    if join is None or rank != 4 or axis not in (2, -2) or len(join.inputs) != 2 or join.inputs[0] is not past:
        raise ValueError(
            f"state: output {output!r} is not {past.name!r} (batch, heads, positions, size) with new positions behind"
        )
    readers = [node for node in uses.readers.get(present, []) if node.op != "Shape"]
    reader = readers[0] if len(readers) == 1 and readers[0].op == "dynq.Attention" else None
    place = None if reader is None else next((p for p in ("k", "v") if reader.input(p) is present), None)
    if reader is None or place is None or present in uses.outputs:
        what = ", ".join(f"{node.name!r} ({node.op})" for node in readers) or "no node"
        raise ValueError(f"state: {output!r} is read by {what}; expected one attention")
    new = join.inputs[1]
    assert new is not None
    return _Cache(past, output, present, new, reader, place)


def _sizes(cache: _Cache, most: int) -> tuple[int, int, int]:
    _, heads, _, size = cache.past.shape or (None,) * 4
    if not isinstance(heads, int) or not isinstance(size, int):
        raise ValueError(f"state: {cache.past.name!r} has {heads} heads of size {size}; expected numbers")
    return heads, most, size


def _ids(graph: Graph, node: Node) -> Value:
    """Return the input that has the batch and the new rows as its first sizes; by its name if they are unknown."""
    q = node.need("q").shape or ()
    wanted = () if len(q) < 3 else (q[0], q[2] if len(q) == 4 else q[1])
    for value in graph.inputs:
        if wanted and None not in wanted and (value.shape or ())[:2] == wanted:
            return value
    for value in graph.inputs:
        if None in wanted and value.name in _IDS and len(value.shape or ()) > 1:
            return value
    raise ValueError(f"state: no input has the batch and the rows of node {node.name!r}, {wanted}, as its first sizes")


def _read_lengths(uses: Uses, ids: Value, caches: list[_Cache]) -> None:
    """Let what reads the shape of a cache read the positions that the session keeps."""
    graph = uses.graph
    sizes = [graph.node("Gather", [graph.node("Shape", [ids]), np.array([axis], np.int64)]) for axis in (0, 1)]
    flat = graph.node("Reshape", [graph.node("dynq.Positions", [ids]), np.array([-1], np.int64)])
    before = graph.node("Gather", [flat, np.array([0], np.int64)])
    lengths = {False: before, True: graph.node("Add", [before, sizes[1]])}  # before the new ones, and with them
    for cache in caches:
        heads, _, size = cache.past.shape[1:] if cache.past.shape else (None,) * 3
        for value, joined in ((cache.past, False), (cache.present, True)):
            for node in list(uses.readers.get(value, [])):
                if node is cache.reader or node.op == "Concat":
                    continue  # nobody reads it any more
                if node.op != "Shape" or node.outputs[0] is None:
                    raise ValueError(f"state: {cache.past.name!r} is read by node {node.name!r} ({node.op})")
                known = [np.array([number], np.int64) for number in (heads, size)]
                parts: list[Any] = [sizes[0], known[0], lengths[joined], known[1]]
                start, end = node.attributes.get("start", 0), node.attributes.get("end")
                assert isinstance(start, int) and (end is None or isinstance(end, int))
                chosen = parts[start:end]
                made = chosen[0] if len(chosen) == 1 else graph.node("Concat", chosen, axis=0)
                uses.replace(node.outputs[0], made)
