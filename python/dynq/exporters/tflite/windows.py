"""Write windows over images: the padding of convolutions, pooling, resizing, blocks of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...conversion import Unsupported
from ...ir.values import Value
from .draft import OPEN, Dims, Edge, Place, last_dims

__all__ = ["Window", "blocks", "padded", "pool", "resize"]

_SAME, _VALID = 0, 1


@dataclass
class Window:
    """A window over (height, width). Over a row, its height is 1."""

    place: Place
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int] | None  # before and after each of the two; None: as SAME has them
    is_row: bool

    @classmethod
    def of(cls, place: Place, x: Value) -> Window:
        """Return the window of a node over x (N, C, W) or (N, C, H, W)."""
        rank = 0 if x.shape is None else len(x.shape)
        if rank not in (3, 4):
            raise Unsupported(f"{place.node.op} over an image that has not one or two axes")
        count = rank - 2
        kernel = place.numbers("kernel_shape", _extents(place, count))
        strides, dilations = (place.numbers(name, [1] * count) for name in ("strides", "dilations"))
        pads: list[int] | None = place.numbers("pads", [0] * 2 * count)
        auto = place.text("auto_pad", "NOTSET")
        if auto == "SAME_LOWER":
            raise Unsupported(f"{place.node.op} with auto_pad SAME_LOWER")
        if auto == "SAME_UPPER":
            pads = None
        elif auto == "VALID":
            pads = [0] * 2 * count
        if count == 1:
            kernel, strides, dilations = ([1, *part] for part in (kernel, strides, dilations))
            pads = None if pads is None else [0, pads[0], 0, pads[1]]
        return cls(place, kernel, strides, dilations, pads, count == 1)

    def wide(self, dims: Dims) -> Dims:
        """Return the sizes of an image, channels last, of those of an image or a row."""
        return (dims[0], 1, *dims[1:]) if self.is_row else dims

    def over(self, x: Edge) -> Edge:
        """Return an image or a row, channels last, as an image."""
        return self.place.expanded(x, 1) if self.is_row else x

    def back(self, y: Edge) -> Edge:
        """Return an image as what the node gives: a row has no height."""
        return self.place.squeezed(y, [1]) if self.is_row else y

    def same_pads(self, dims: Dims) -> list[int] | None:
        """Return what SAME adds to an image of these sizes; None if that depends on sizes that are open."""
        begin, end = [], []
        for size, extent, stride, dilation in zip(dims[1:3], self.kernel, self.strides, self.dilations, strict=True):
            reach = (extent - 1) * dilation + 1
            if size == OPEN and stride != 1:
                return None
            total = reach - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + reach - size, 0)
            begin.append(total // 2)
            end.append(total - total // 2)
        return begin + end


def _extents(place: Place, count: int) -> list[int]:
    weight = place.node.input(1)
    shape = () if weight is None or weight.shape is None else weight.shape[-count:]
    return [dim for dim in shape if isinstance(dim, int)]


def padded(place: Place, window: Window, x: Edge, value: float | None) -> tuple[Edge, bool]:
    """Return the image that a window goes over, channels last, and whether the operator pads it as SAME.

    Args:
        value: what PAD adds if neither SAME nor VALID is right. None: it cannot.
    """
    x = window.over(x)
    if window.pads is None or (any(window.pads) and window.pads == window.same_pads(x.dims)):
        return x, True
    if not any(window.pads):
        return x, False
    if value is None or min(window.pads) < 0:
        raise Unsupported(f"{place.node.op} with paddings {window.pads}")
    top, left, bottom, right = window.pads
    return pad(place, x, [(0, 0), (top, bottom), (left, right), (0, 0)], value), False


def pad(place: Place, x: Edge, pads: list[tuple[int, int]], value: float | int | bool = 0) -> Edge:
    """Return x with a constant around it."""
    dims = tuple(OPEN if size == OPEN else size + sum(part) for size, part in zip(x.dims, pads, strict=True))
    around = place.draft.array(np.array(pads, np.int32).reshape(-1, 2), f"{place.node.name}/pads")
    if value == 0:
        return place.op("PAD", [x, around], dims, options="PadOptions")
    return place.op("PADV2", [x, around, place.scalar(value, x.dtype)], dims, options="PadV2Options")


def pool(place: Place) -> None:
    """Write MAX_POOL_2D and AVERAGE_POOL_2D."""
    node = place.node
    if any(value is not None for value in node.outputs[1:]):
        raise Unsupported(f"{node.op} whose indices are read")
    window = Window.of(place, place.value(0))
    if window.dilations != [1, 1]:
        raise Unsupported(f"{node.op} with dilations")
    x = place.last(0)
    if x.dtype != "float32":
        raise Unsupported(f"{node.op} of {x.dtype}")
    _grow(place, window)
    counted = bool(place.integer("count_include_pad", 0))
    value = -np.inf if node.op == "MaxPool" else 0.0 if counted else None
    if counted and window.pads is None:
        window.pads = window.same_pads(window.wide(x.dims))
    if counted and window.pads is not None and any(window.pads):
        top, left, bottom, right = window.pads
        x = pad(place, window.over(x), [(0, 0), (top, bottom), (left, right), (0, 0)])
        same = False
    else:
        x, same = padded(place, window, x, value)
    dims = last_dims(place.out_dims())
    y = place.op(
        "MAX_POOL_2D" if node.op == "MaxPool" else "AVERAGE_POOL_2D", [x], window.wide(dims), options="Pool2DOptions",
        Padding=_SAME if same else _VALID, StrideH=window.strides[0], StrideW=window.strides[1],
        FilterHeight=window.kernel[0], FilterWidth=window.kernel[1],
    )  # fmt: skip
    place.gives(window.back(y), last=True)


def _grow(place: Place, window: Window) -> None:
    """Pad the end of an image for windows that ceil_mode lets begin before it and end behind it."""
    if not place.integer("ceil_mode", 0):
        return
    have, want = (window.wide(last_dims(dims)) for dims in (_dims_of(place), place.out_dims()))
    if OPEN in (*have[1:3], *want[1:3]) or window.pads is None:
        raise Unsupported(f"{place.node.op} with ceil_mode of sizes that are open")
    for i in range(2):
        needed = (want[1 + i] - 1) * window.strides[i] + window.kernel[i]
        more = needed - have[1 + i] - window.pads[i] - window.pads[2 + i]
        if more > 0 and place.node.op == "AveragePool":
            raise Unsupported("AveragePool with ceil_mode")
        window.pads[2 + i] += max(more, 0)


def _dims_of(place: Place) -> Dims:
    return tuple(dim if isinstance(dim, int) else OPEN for dim in place.shape(0))


def resize(place: Place) -> None:
    """Write RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR."""
    mode, transform = place.text("mode", "nearest"), place.text("coordinate_transformation_mode", "half_pixel")
    have, want = _dims_of(place), place.out_dims()
    if len(have) != 4 or have[1] != want[1] or OPEN in (*have[2:], *want[2:]):
        raise Unsupported("Resize of anything but the height and width of images whose sizes are known")
    scales = place.node.input("scales")
    factors = (
        None if scales is None or not scales.shape or scales.shape == (0,) else place.known("scales", "scales")[-2:]
    )
    if factors is not None and any(
        size * factor != new for size, factor, new in zip(have[2:], factors, want[2:], strict=True)
    ):
        raise Unsupported("Resize by scales that are not the quotients of the sizes")
    if transform == "pytorch_half_pixel" and min(want[2:]) > 1:
        transform = "half_pixel"
    whole = all(new % size == 0 for size, new in zip(have[2:], want[2:], strict=True))
    flags = {"half_pixel": (False, True), "align_corners": (True, False), "asymmetric": (False, False)}
    rounding = place.text("nearest_mode", "round_prefer_floor")
    expected = {"floor"} if transform == "asymmetric" else {"round_prefer_ceil"}
    if transform == "half_pixel" and whole:  # no place lies in the middle between two
        expected = {"round_prefer_ceil", "round_prefer_floor"}
    if (
        transform not in flags or mode not in ("linear", "nearest") or place.integer("antialias", 0)
        or (mode == "nearest" and rounding not in expected)
    ):  # fmt: skip
        raise Unsupported(f"Resize in mode {mode} with {transform}, {rounding}")
    corners, centers = flags[transform]
    op, options = ("RESIZE_BILINEAR", "ResizeBilinearOptions") if mode == "linear" else (
        "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"
    )  # fmt: skip
    y = place.op(op, [place.last(0), place.ints(want[2:])], last_dims(want), version=3, options=options,
                 AlignCorners=corners, HalfPixelCenters=centers)  # fmt: skip
    place.gives(y, last=True)


def blocks(place: Place) -> None:
    """Write DEPTH_TO_SPACE and SPACE_TO_DEPTH."""
    if place.text("mode", "DCR") != "DCR":
        raise Unsupported(f"{place.node.op} in mode {place.text('mode', 'DCR')}")
    op, options = ("DEPTH_TO_SPACE", "DepthToSpaceOptions") if place.node.op == "DepthToSpace" else (
        "SPACE_TO_DEPTH", "SpaceToDepthOptions"
    )  # fmt: skip
    y = place.op(op, [place.last(0)], last_dims(place.out_dims()), options=options,
                 BlockSize=place.integer("blocksize", 1))  # fmt: skip
    place.gives(y, last=True)
