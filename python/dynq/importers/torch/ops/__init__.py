"""The converters, by kind of op. Importing this registers them."""

from . import (
    attention,
    complexes,
    composed,
    creation,
    movement,
    norms,
    pointwise,
    products,
    quantized,
    recurrent,
    reductions,
    scatter,
    selections,
    state,
    views,
    windows,
)

__all__ = [
    "attention",
    "complexes",
    "composed",
    "creation",
    "movement",
    "norms",
    "pointwise",
    "products",
    "quantized",
    "recurrent",
    "reductions",
    "scatter",
    "selections",
    "state",
    "views",
    "windows",
]
