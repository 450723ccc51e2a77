"""Facts of LSTM, GRU and RNN that the table of ops lacks: the order of gates, the states and their weights."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CELLS", "STATE_PROJECTION", "Cell"]

STATE_PROJECTION = 8  # input of an LSTM behind ONNX's own: (D, P, H), constant; split_recurrent removes it


class Cell(NamedTuple):
    """The description of the layers of one op."""

    gates: tuple[int, ...]  # ONNX's, by their places among PyTorch's: i o f c of i f g o, z r h of r z n
    functions: int  # activations of one direction
    states: tuple[str, ...]
    weights: tuple[str, ...]  # of states: dynq's op has inputs _forward and _backward, or _panels, for each


CELLS = {
    "LSTM": Cell((0, 3, 1, 2), 3, ("h", "c"), ("R", "projection")),
    "GRU": Cell((1, 0, 2), 2, ("h",), ("R",)),
    "RNN": Cell((0,), 1, ("h",), ("R",)),
}
