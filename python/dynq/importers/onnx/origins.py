"""Find what a value that is not known depends on, for errors that say how to fix it."""

from __future__ import annotations

from ...graph import Value

__all__ = ["origins"]


def origins(value: Value, of_shape: bool, captured: dict[Value, Value]) -> tuple[list[str], dict[str, str]]:
    """Return the names of the inputs that a value is computed from, and the shapes of those whose sizes it needs.

    Args:
        value: where to begin.
        of_shape: whether its shape alone is meant.
        captured: what inputs of bodies are in the graphs around them.
    """
    inputs: list[str] = []
    sizes: dict[str, str] = {}
    seen, rest = set(), [(value, of_shape)]
    while rest:
        at, of_shape = rest.pop()
        if at in captured:
            rest.append((captured[at], of_shape))
            continue
        if (at, of_shape) in seen:
            continue
        seen.add((at, of_shape))
        if at.producer is not None:
            of_shape = of_shape or at.producer.op in ("Shape", "Size")
            rest += [(before, of_shape) for before in at.producer.inputs if before is not None]
        elif at.constant is None and not of_shape:
            inputs.append(at.name)
        elif at.constant is None and not all(isinstance(size, int) for size in at.shape or ()):
            sizes[at.name] = "x".join(str(size) for size in at.shape or ())
    return inputs, sizes
