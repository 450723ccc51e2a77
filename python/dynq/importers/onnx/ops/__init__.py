"""The converters, by kind of op. Importing this registers them."""

from . import constants, microsoft, pointwise, products, quantized, recurrent, reductions, shapes, windows

__all__ = [
    "constants",
    "microsoft",
    "pointwise",
    "products",
    "quantized",
    "recurrent",
    "reductions",
    "shapes",
    "windows",
]
