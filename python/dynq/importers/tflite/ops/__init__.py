"""The converters, by kind of op. Importing this registers them."""

from . import (
    comparisons,
    constants,
    control,
    fourier,
    indexing,
    layers,
    normalizations,
    pointwise,
    recurrent,
    reductions,
    shapes,
    slices,
    windows,
)

__all__ = [
    "comparisons",
    "constants",
    "control",
    "fourier",
    "indexing",
    "layers",
    "normalizations",
    "pointwise",
    "recurrent",
    "reductions",
    "shapes",
    "slices",
    "windows",
]
