"""Matrix products of floats."""

from __future__ import annotations

from ..attributes import FLOAT, INT
from .pointwise import passes

passes("MatMul")
passes("Gemm", alpha=FLOAT, beta=FLOAT, transA=INT, transB=INT)
