"""Windows over images without weights: pooling, resizing, blocks of pixels."""

from __future__ import annotations

from ....conversion import Unsupported
from ....graph import Value
from ..convert import Call, Result, converter
from ..layout import Planes
from .layers import window_attributes


def _attributes(call: Call, x: Value) -> dict[str, object]:
    kernel = [call.option("FilterHeight"), call.option("FilterWidth")]
    strides = [call.option("StrideH"), call.option("StrideW")]
    return window_attributes(x, kernel, strides, [1, 1], call.option("Padding", 0) == 0)


@converter("MAX_POOL_2D AVERAGE_POOL_2D", "Pool2DOptions")
def pool(call: Call) -> Result:
    """Pool without what is outside of the image: it does not count in an average."""
    x = call.planes(0)
    op = "MaxPool" if call.op == "MAX_POOL_2D" else "AveragePool"
    return Planes(call.activated(call.node(op, [x], **_attributes(call, x))))


@converter("L2_POOL_2D", "Pool2DOptions")
def l2_pool(call: Call) -> Result:
    x = call.planes(0)
    mean = call.node("AveragePool", [call.node("Mul", [x, x])], **_attributes(call, x))
    return Planes(call.activated(call.node("Sqrt", [mean])))


@converter("RESIZE_BILINEAR", "ResizeBilinearOptions")
@converter("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
def resize(call: Call) -> Result:
    """x, sizes (height, width)"""
    corners, centers = call.option("AlignCorners", False), call.option("HalfPixelCenters", False)
    if corners and centers:
        raise ValueError("align_corners and half_pixel_centers are both set")
    mode = "align_corners" if corners else "half_pixel" if centers else "asymmetric"
    attributes: dict[str, object] = {"mode": "linear"}
    if call.op == "RESIZE_NEAREST_NEIGHBOR":  # floor(x + 1/2) of a place that is half a pixel further back
        attributes = {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if corners or centers else "floor"}
    x, sizes = call.planes(0), call.long(1)
    inputs = [x, None, None, sizes]
    return Planes(call.node("Resize", inputs, axes=[2, 3], coordinate_transformation_mode=mode, **attributes))


@converter("DEPTH_TO_SPACE", "DepthToSpaceOptions")
@converter("SPACE_TO_DEPTH", "SpaceToDepthOptions")
def blocks(call: Call) -> Result:
    size = call.option("BlockSize", 1)
    if size < 1:
        raise ValueError(f"blocks of {size}")
    op = "DepthToSpace" if call.op == "DEPTH_TO_SPACE" else "SpaceToDepth"
    return Planes(call.node(op, [call.planes(0)], blocksize=size))


@converter("SPACE_TO_BATCH_ND")
def space_to_batch(call: Call) -> Result:
    """x (N, ..., C), blocks, paddings (.., 2): each place of a block becomes a batch of its own."""
    blocks, paddings = call.numbers(1, "block shape"), call.numbers(2, "paddings")
    x, rank = call.value(0), call.rank(0)
    _check_blocks(blocks, paddings, rank)
    rest = rank - 1 - len(blocks)
    if any(paddings):
        pads = call.integers([0, *paddings[::2], *[0] * rest, 0, *paddings[1::2], *[0] * rest])
        x = call.node("Pad", [x, pads])
    sizes = _tail(call, x)
    count = len(blocks)
    split: list[int] = []
    for size, block in zip(sizes[:count], blocks, strict=True):
        if size % block:
            raise ValueError(f"{size} is no multiple of the block {block}")
        split += [size // block, block]
    x = call.node("Reshape", [x, call.integers([-1, *split, *sizes[count:]])])
    perm = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count + 1, 2), *range(2 * count + 1, 2 * count + 1 + rest)]
    x = call.node("Transpose", [x], perm=perm)
    return call.node("Reshape", [x, call.integers([-1, *split[::2], *sizes[count:]])])


@converter("BATCH_TO_SPACE_ND")
def batch_to_space(call: Call) -> Result:
    """x (N * blocks, ..., C), blocks, crops (.., 2)"""
    blocks, crops = call.numbers(1, "block shape"), call.numbers(2, "crops")
    x, rank = call.value(0), call.rank(0)
    _check_blocks(blocks, crops, rank)
    sizes, count = _tail(call, x), len(blocks)
    rest = rank - 1 - count
    x = call.node("Reshape", [x, call.integers([*blocks, -1, *sizes])])
    perm = [count]
    for i in range(count):
        perm += [count + 1 + i, i]
    perm += range(2 * count + 1, 2 * count + 1 + rest)
    x = call.node("Transpose", [x], perm=perm)
    grown = [size * block for size, block in zip(sizes[:count], blocks, strict=True)]
    x = call.node("Reshape", [x, call.integers([-1, *grown, *sizes[count:]])])
    if not any(crops):
        return x
    ends = [size - crop for size, crop in zip(grown, crops[1::2], strict=True)]
    parts = [call.integers(part) for part in (crops[::2], ends, list(range(1, count + 1)))]
    return call.node("Slice", [x, *parts])


def _check_blocks(blocks: list[int], more: list[int], rank: int) -> None:
    if len(more) != 2 * len(blocks) or not 1 <= len(blocks) < rank or min(blocks) < 1 or min(more) < 0:
        raise ValueError(f"blocks {blocks} and {more} for {rank} dimensions")


def _tail(call: Call, x: Value) -> list[int]:
    """Return all sizes but the batch."""
    sizes = [] if x.shape is None else list(x.shape[1:])
    if not sizes or not all(isinstance(size, int) for size in sizes):
        raise Unsupported(f"{call.op} of a tensor whose sizes are open")
    return [size for size in sizes if isinstance(size, int)]
