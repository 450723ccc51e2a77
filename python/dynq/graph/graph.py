"""dynq.Graph: a network, written node by node, that builds a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..ir import graph as ir
from ..ir.values import Value
from ..model import Model
from ..quantization.options import BuildOptions, GivenOptions, takes_options
from .build import build

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Graph"]


class Graph(ir.Graph):
    """A network, written node by node.

    >>> import dynq, numpy as np
    >>> g = dynq.Graph()
    >>> x = g.input("x", ("batch", 3))
    >>> y = g.linear(x, np.eye(3, dtype=np.float32), activation="relu")
    >>> model = g.build(y)
    """

    @takes_options
    def build(self, *outputs: Value | Mapping[str, Value], **options: Unpack[GivenOptions]) -> Model:
        """Return the model; the graph stays as it is.

        Args:
            outputs: values, or one mapping of names to values. Without any, the outputs are those that ``output``
                named.
            options: those of BuildOptions.
        """
        return build(self, outputs, BuildOptions.of(options))
