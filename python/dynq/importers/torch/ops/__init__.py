"""The converters, by kind of op. Importing this registers them."""

from . import attention, creation, movement, norms, pointwise, products, recurrent, reductions, views, windows

__all__ = [
    "attention",
    "creation",
    "movement",
    "norms",
    "pointwise",
    "products",
    "recurrent",
    "reductions",
    "views",
    "windows",
]
