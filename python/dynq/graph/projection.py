"""The projection of an LSTM's states, which ONNX does not have: weights that go with it are constant and fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ir import Value

__all__ = ["check_projection"]


def check_projection(direction: str, w: Value | None, r: Value | None, b: Value | None, projection: Value) -> None:
    """w (D, 4 * H, I), r (D, 4 * H, P), b (D, 8 * H), projection (D, P, H)."""
    directions = 2 if direction == "bidirectional" else 1
    shape = projection.shape or ()
    if projection.constant is None or len(shape) != 3 or shape[0] != directions or 0 in shape:
        raise ValueError(f"projection has shape {projection.shape}; expected a constant ({directions}, P, H)")
    _, size, hidden = shape
    assert isinstance(hidden, int)
    for name, value, expected in (
        ("w", w, (directions, 4 * hidden, None)),
        ("r", r, (directions, 4 * hidden, size)),
        ("b", b, (directions, 8 * hidden)),
    ):
        if value is None:
            continue
        got = value.shape or ()
        if (
            value.constant is None
            or len(got) != len(expected)
            or any(wanted not in (None, given) for given, wanted in zip(got, expected, strict=True))
        ):
            text = ", ".join("I" if size is None else str(size) for size in expected)
            raise ValueError(f"{name} has shape {value.shape}; expected a constant ({text}): projection is {shape}")
