"""Convert a whole model: the subgraph that a signature names, with its inputs and outputs."""

from __future__ import annotations

from ...conversion import InvalidModelError, Problems
from ...core.names import TakenNames
from ...graph import Graph
from .convert import COMPLEX, Held, Walk
from .grids import has_grid
from .source import Source
from .tensors import dtype_of

__all__ = ["WrongSignature", "convert"]


class WrongSignature(Exception):
    """The model has no signature of the name that was asked for."""


def convert(source: Source, signature: str | None = None, is_hybrid: bool = False) -> Graph:
    """Return the graph of a model, or of one of its signatures.

    Args:
        is_hybrid: whether layers with int8 weights and float inputs run as TensorFlow Lite's hybrid kernels do.
    """
    at, inputs, outputs = _entry(source, signature)
    problems, graph = Problems(), Graph(source.name)
    walk = Walk(source, at, graph, problems)
    walk.is_hybrid = is_hybrid
    subgraph = walk.subgraph
    for index in subgraph.inputs:
        tensor = subgraph.tensors[index]
        if not walk.check_type(tensor, "input"):
            walk.refused.add(index)
            continue
        name = walk.fresh(inputs.get(index) or tensor.name)
        dims = [dim if dim >= 0 else f"{name}_dim_{i}" for i, dim in enumerate(tensor.signature)]
        given = graph.input(name, dims, dtype_of(tensor.kind))
        value = walk.grids.floats(given, tensor, walk.namer(name)) if has_grid(tensor) else given
        walk.hold(tensor, Held(last=value))
    walk.run()
    for index in subgraph.outputs:
        if subgraph.tensors[index].kind == COMPLEX and index not in walk.refused:
            problems.add("an output of COMPLEX64", subgraph.tensors[index].name)
    problems.check(source.name)
    taken = TakenNames()
    if not subgraph.outputs:
        raise InvalidModelError(f"{source.name} has no outputs")
    for index in subgraph.outputs:
        tensor = subgraph.tensors[index]
        name = outputs.get(index) or tensor.name
        value = walk.last(tensor)
        if has_grid(tensor):
            value = walk.grids.integers(value, tensor, walk.namer(name))
        graph.output(value, taken.take(name))
    return graph


def _entry(source: Source, wanted: str | None) -> tuple[int, dict[int, str], dict[int, str]]:
    """Return the number of the subgraph that runs, and the names that its signature gives its tensors."""
    if wanted is not None:
        found = [signature for signature in source.signatures if signature.key == wanted]
        if not found:
            keys = ", ".join(repr(signature.key) for signature in source.signatures) or "none"
            raise WrongSignature(f"{source.name} has no signature {wanted!r}; it has {keys}")
    else:
        found = [signature for signature in source.signatures if signature.subgraph == 0]
    if not found:
        return 0, {}, {}
    return found[0].subgraph, found[0].inputs, found[0].outputs
