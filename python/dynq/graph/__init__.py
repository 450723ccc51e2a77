"""The op graph: write or import a network, bring it into dynq's ops, quantize it, write one file."""

from .ir import Graph, Node, Value

__all__ = ["Graph", "Node", "Value"]
