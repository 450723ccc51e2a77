"""The graph that people write, and how it becomes a model: passes, quantization, the image of a file."""

from ..ir.values import Node, Value
from .graph import Graph

__all__ = ["Graph", "Node", "Value"]
