"""What quantization does to a model: a report of its layers, and which of them cost its accuracy. docs/analysis.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis import Analysis, LayerRow, OutputRow, analyze
    from .culprits import Culprits, MetricError, Trial, find_culprits
    from .static import StaticComparison, StaticRow, compare_static

__all__ = [
    "Analysis",
    "Culprits",
    "LayerRow",
    "MetricError",
    "OutputRow",
    "StaticComparison",
    "StaticRow",
    "Trial",
    "analyze",
    "compare_static",
    "find_culprits",
]

_OF_CULPRITS = ("Culprits", "MetricError", "Trial", "find_culprits")
_OF_STATIC = ("StaticComparison", "StaticRow", "compare_static")


def __getattr__(name: str) -> Any:
    """Modules are imported when they are asked for: `import dynq` is quicker without them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import analysis, culprits, static

    return getattr(culprits if name in _OF_CULPRITS else static if name in _OF_STATIC else analysis, name)
