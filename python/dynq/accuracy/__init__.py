"""Analyze what quantization does to a model: a report of its layers, and those that cost its accuracy.
docs/analysis.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis import Analysis, analyze
    from .culprits import Culprits, MetricError, find_culprits
    from .results import LayerRow, OutputRow, StaticRow, Trial
    from .static import StaticComparison, compare_static

_MODULES = {
    "Analysis": ".analysis",
    "Culprits": ".culprits",
    "LayerRow": ".results",
    "MetricError": ".culprits",
    "OutputRow": ".results",
    "StaticComparison": ".static",
    "StaticRow": ".results",
    "Trial": ".results",
    "analyze": ".analysis",
    "compare_static": ".static",
    "find_culprits": ".culprits",
}

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


def __getattr__(name: str) -> Any:
    """Import a module when one of its names is asked for. This way `import dynq` does not have to wait for rich."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
