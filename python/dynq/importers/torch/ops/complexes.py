"""Complex numbers: a tensor of them is a tensor of floats with one axis more, the real and the imaginary part.

Fourier transforms are products with constant matrices that stay in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....conversion import Unsupported
from ....graph import Value
from ...fourier import matrices
from ..call import Call, Result, complex_converter
from .composed import angle_of

_LAST = -1


def _parts(call: Call, x: Value) -> tuple[Value, Value]:
    """Return the real and the imaginary parts."""
    real, imaginary = call.split(x, len(x.shape or ()) - 1, [1, 1])
    last = call.axes([_LAST])
    return call.node("Squeeze", [real, last]), call.node("Squeeze", [imaginary, last])


def _joined(call: Call, real: Value, imaginary: Value) -> Value:
    """Return complex numbers of their parts, which have the shape of the result."""
    last = call.axes([_LAST])
    pair = [call.node("Unsqueeze", [part, last]) for part in (real, imaginary)]
    return call.emit("Concat", pair, axis=_LAST)


def _operand(call: Call, name: str) -> tuple[Value, Value | None]:
    """Return the parts of a tensor or a number; None for the imaginary part of a real one."""
    given = call.get(name)
    if isinstance(given, complex):
        return call.floats(given.real), call.floats(given.imag)
    if isinstance(given, (bool, int, float)):
        return call.floats(float(given)), None
    x = call.value(name)
    return _parts(call, x) if call.fake(name).is_complex() else (call.cast(x, "float32"), None)


@complex_converter("view_as_real view_as_complex alias clone contiguous detach lift_fresh_copy lift resolve_conj")
def same(call: Call) -> Result:
    """Nothing: the parts lie as torch shows them."""
    return call.value("self")


@complex_converter("to _to_copy")
def cast(call: Call) -> Result:
    """Real numbers get an imaginary part of 0; complex ones lose theirs where the result is real, as in torch."""
    call.get("dtype")
    x = call.value("self")
    if call.fake("self").is_complex():
        return x if call.result.is_complex() else call.cast(_parts(call, x)[0], call.dtype)
    x = call.cast(x, "float32")
    return _joined(call, x, call.node("Mul", [x, call.floats(0)]))


@complex_converter("complex")
def of_parts(call: Call) -> Result:
    return _joined(call, *(call.expand(call.value(name), call.result.shape) for name in ("real", "imag")))


@complex_converter("polar")
def polar(call: Call) -> Result:
    size, angle = (call.expand(call.value(name), call.result.shape) for name in ("abs", "angle"))
    return _joined(call, *(call.node("Mul", [size, call.node(op, [angle])]) for op in ("Cos", "Sin")))


@complex_converter("real imag")
def one_part(call: Call) -> Result:
    return _parts(call, call.value("self"))[call.op == "aten.imag"]


@complex_converter("abs")
def size(call: Call) -> Result:
    return call.emit("ReduceL2", [call.value("self"), call.axes([_LAST])], keepdims=0)


@complex_converter("angle")
def angle(call: Call) -> Result:
    real, imaginary = _parts(call, call.value("self"))
    return angle_of(call, imaginary, real)


@complex_converter("conj _conj conj_physical _conj_physical")
def conjugate(call: Call) -> Result:
    return call.emit("Mul", [call.value("self"), call.constant(np.array([1, -1], np.float32))])


@complex_converter("neg")
def negative(call: Call) -> Result:
    return call.emit("Neg", [call.value("self")])


@complex_converter("add sub")
def add(call: Call) -> Result:
    call.only("alpha", 1)
    op = "Add" if call.op == "aten.add" else "Sub"
    (a, b), (c, d) = _operand(call, "self"), _operand(call, "other")
    zero = call.floats(0)
    parts = [call.node(op, [a, c]), call.node(op, [zero if b is None else b, zero if d is None else d])]
    return _joined(call, *(call.expand(part, call.result.shape) for part in parts))


@complex_converter("mul")
def multiply(call: Call) -> Result:
    (a, b), (c, d) = _operand(call, "self"), _operand(call, "other")
    if b is None or d is None:
        (a, b), real = ((a, b), c) if d is None else ((c, d), a)
        assert b is not None
        parts = [call.node("Mul", [a, real]), call.node("Mul", [b, real])]
    else:
        real_part = call.node("Sub", [call.node("Mul", [a, c]), call.node("Mul", [b, d])])
        parts = [real_part, call.node("Add", [call.node("Mul", [a, d]), call.node("Mul", [b, c])])]
    return _joined(call, *(call.expand(part, call.result.shape) for part in parts))


@complex_converter("div")
def divide(call: Call) -> Result:
    (a, b), (c, d) = _operand(call, "self"), _operand(call, "other")
    if b is None or d is not None:
        raise Unsupported("aten.div by complex numbers")
    parts = [call.node("Div", [part, c]) for part in (a, b)]
    return _joined(call, *(call.expand(part, call.result.shape) for part in parts))


@complex_converter("unsqueeze")
def unsqueeze(call: Call) -> Result:
    return call.unsqueeze(call.value("self"), call.axis("dim", call.rank("self") + 1))


@complex_converter("select")
def select(call: Call) -> Result:
    axis, index = call.axis("dim", call.rank("self")), call.fixed("index")
    return call.emit("Gather", [call.value("self"), call.constant(np.array(index, np.int64))], axis=axis)


@complex_converter("slice")
def cut(call: Call) -> Result:
    axis, start, end = call.axis("dim", call.rank("self")), call.get("start") or 0, call.get("end")
    end = call.axes([2**63 - 1]) if end is None else call.vector(end)
    step = call.axes([call.fixed("step", 1)])
    return call.emit("Slice", [call.value("self"), call.vector(start), end, call.axes([axis]), step])


@complex_converter("permute transpose")
def permute(call: Call) -> Result:
    rank = call.rank("self")
    if call.op == "aten.permute":
        perm = [dim % rank for dim in call.fixed("dims")]
    else:
        perm = list(range(rank))
        a, b = (call.fixed(name) % rank for name in ("dim0", "dim1"))
        perm[a], perm[b] = b, a
    return call.transpose(call.value("self"), [*perm, rank])


@complex_converter("view reshape _unsafe_view flatten expand")
def reshape(call: Call) -> Result:
    for name in ("size", "shape", "start_dim", "end_dim", "implicit"):
        call.get(name)
    make = call.expand if call.op == "aten.expand" else call.reshape
    return make(call.value("self"), [*call.result.shape, 2])


@complex_converter("cat")
def concatenate(call: Call) -> Result:
    axis = call.axis("dim", len(call.result.shape))
    return call.emit("Concat", [call.of(node) for node in call.get("tensors")], axis=axis)


# ---- Fourier transforms


@complex_converter("_fft_r2c")
def of_real(call: Call) -> Result:
    """Transform the last of the axes from real numbers, then the others."""
    axes, onesided = [dim % call.rank("self") for dim in call.fixed("dim")], bool(call.fixed("onesided"))
    x = call.node("Unsqueeze", [call.value("self"), call.axes([_LAST])])
    sizes = _sizes(call, axes)
    x = _transform(call, x, axes[-1], sizes[-1], False, onesided)
    for axis, n in zip(axes[:-1], sizes, strict=False):
        x = _transform(call, x, axis, n, False, False)
    return _scaled(call, x, sizes, False)


@complex_converter("_fft_c2c")
def of_complex(call: Call) -> Result:
    axes, inverse = [dim % call.rank("self") for dim in call.fixed("dim")], not call.fixed("forward")
    x, sizes = call.value("self"), _sizes(call, axes)
    for axis, n in zip(axes, sizes, strict=True):
        x = _transform(call, x, axis, n, inverse, False)
    return _scaled(call, x, sizes, inverse)


@complex_converter("_fft_c2r")
def to_real(call: Call) -> Result:
    """Transform back to real numbers: the other axes, then the last one, of which there is one half."""
    axes, n = [dim % call.rank("self") for dim in call.fixed("dim")], call.fixed("last_dim_size")
    x, sizes = call.value("self"), [*_sizes(call, axes[:-1]), n]
    for axis, size in zip(axes[:-1], sizes, strict=False):
        x = _transform(call, x, axis, size, True, False)
    x = _transform(call, x, axes[-1], n, True, True)
    return call.node("Squeeze", [_scaled(call, x, sizes, True), call.axes([_LAST])])


def _sizes(call: Call, axes: Sequence[int]) -> list[int]:
    sizes = [call.fake("self").shape[axis] for axis in axes]
    if not all(isinstance(size, int) for size in sizes):
        raise Unsupported(f"{call.op} of an axis whose size is open")
    return sizes


def _scaled(call: Call, x: Value, sizes: Sequence[int], inverse: bool) -> Value:
    """Apply torch's normalization: 0 is none, 1 divides by the root of the number of points, 2 by that number."""
    points = math.prod(sizes)
    wanted = {0: 1.0, 1: points**-0.5, 2: 1 / points}[call.fixed("normalization")]
    scale = wanted * points if inverse else wanted  # an inverse matrix divides by the number already
    return x if math.isclose(scale, 1) else call.node("Mul", [x, call.floats(scale)])


def _transform(call: Call, x: Value, axis: int, n: int, inverse: bool, onesided: bool) -> Value:
    """Transform an axis of ``x``, whose last axis has the real part and, of two, the imaginary one."""
    rank = len(x.shape or ())
    given = n // 2 + 1 if inverse and onesided else n
    size = (x.shape or ())[axis]
    if isinstance(size, int) and size > given:  # torch leaves the rest out
        x = call.node("Slice", [x, call.axes([0]), call.axes([given]), call.axes([axis])])
    perm = [*(i for i in range(rank - 1) if i != axis), axis, rank - 1]
    x = call.transpose(x, perm)
    # A matrix of more than two axes is no weight of a linear layer, which would become int8.
    tables = matrices(call.op, n, inverse, onesided)
    cosines, sines = (call.constant(table.reshape(*[1] * max(rank - 2, 1), *table.shape)) for table in tables)
    flat = rank == 2
    x = call.unsqueeze(x, 0) if flat else x
    even, odd = call.node("MatMul", [cosines, x]), call.node("MatMul", [sines, x])
    if (x.shape or ())[-1] == 1:
        y = call.node("Concat", [even, odd], axis=_LAST)
    else:
        last = len(x.shape or ()) - 1
        real_even, imaginary_even = call.split(even, last, [1, 1])
        real_odd, imaginary_odd = call.split(odd, last, [1, 1])
        y = call.node("Sub", [real_even, imaginary_odd])
        if not (inverse and onesided):
            y = call.node("Concat", [y, call.node("Add", [imaginary_even, real_odd])], axis=_LAST)
    y = call.node("Squeeze", [y, call.axes([0])]) if flat else y
    return call.transpose(y, [perm.index(i) for i in range(rank)])
