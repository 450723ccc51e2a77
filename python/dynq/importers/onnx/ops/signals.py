"""Fourier transforms, as products with constant matrices that stay in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, defs, helper
from onnx.reference import ReferenceEvaluator

from ....conversion import Unsupported
from ....core.arguments import FLOAT32, Array
from ....graph import Value
from ...fourier import LARGEST, matrices
from ..attributes import INT, one_of
from ..convert import Call, Result, converter
from .sizes import Dim, dim_of, integers, known_size, known_values, window_starts


@converter("DFT", since=17, axis=INT, inverse=one_of(0, 1), onesided=one_of(0, 1))
def dft_along_an_attribute(call: Call) -> Result:
    return _dft(call, call.attribute("axis", 1))


@converter("DFT", since=20, inverse=one_of(0, 1), onesided=one_of(0, 1))
def dft(call: Call) -> Result:
    return _dft(call, -2 if call.input("axis") is None else _number(call, "axis"))


def _dft(call: Call, axis: int) -> Result:
    x, rank = call.need("input"), call.rank("input")
    inverse, onesided = bool(call.attribute("inverse", 0)), bool(call.attribute("onesided", 0))
    if not (-rank <= axis < rank - 1 and axis != -1):
        raise ValueError(f"axis {axis} of {rank} dimensions, of which the last is not one of the signal")
    axis %= rank
    if call.input("dft_length") is not None:
        n = _number(call, "dft_length")
    else:
        n = known_size(call, x, axis)
        n = 2 * (n - 1) if inverse and onesided else n
    wanted = n // 2 + 1 if inverse and onesided else n
    x = _fit(call, x, axis, rank, wanted)
    perm = [*(i for i in range(rank - 1) if i != axis), axis, rank - 1]
    x = call.node("Transpose", [x], perm=perm) if axis != rank - 2 else x
    parts, tables = known_size(call, x, rank - 1), matrices(call.op, n, inverse, onesided)
    y = _transformed(call, x, rank, parts, tables, inverse and onesided)
    return call.last("Transpose", [y], perm=list(np.argsort(perm)))


def _number(call: Call, name: str) -> int:
    """Return an input of one number, which the conversion needs."""
    numbers = known_values(call, name)
    if len(numbers) != 1:
        raise ValueError(f"{name} has {len(numbers)} elements; expected 1")
    return numbers[0]


def _fit(call: Call, x: Value, axis: int, rank: int, wanted: int) -> Value:
    """Cut an axis off, or fill it with zeros, so that it has the wanted size."""
    if wanted < 1:
        raise ValueError(f"a signal of {wanted} places; expected 1 or more")
    size = Dim(x, axis).number
    if size == wanted:
        return x
    if size is None or size > wanted:
        limits = [integers(call, number) for number in (0, wanted, axis)]
        x = call.node("Slice", [x, *limits])
    if size is None:  # as many zeros as are missing, or none
        missing = call.node("Sub", [integers(call, wanted), dim_of(call, Dim(x, axis))])
        pads = call.node("Concat", [integers(call, 0), missing], axis=0)
        return call.node("Pad", [x, pads, None, integers(call, axis)])
    pads = integers(call, *[0] * (rank + axis), max(wanted - size, 0), *[0] * (rank - axis - 1))
    return call.node("Pad", [x, pads]) if size < wanted else x


def _transformed(call: Call, x: Value, rank: int, parts: int, tables: tuple[Array, Array], real: bool) -> Value:
    """Transform axis -2 of ``x``, whose last axis has the real part and, of two, the imaginary one."""
    # A matrix of more than two axes is no weight of a linear layer, which would become int8.
    cosines, sines = (
        call.constant(matrix.reshape(*[1] * max(rank - 2, 1), *matrix.shape), name)
        for matrix, name in zip(tables, ("cosines", "sines"), strict=True)
    )
    if parts not in (1, 2):
        raise ValueError(f"the last axis has size {parts}; expected 1 (real) or 2 (complex)")
    x = x if rank > 2 else call.node("Unsqueeze", [x, integers(call, 0)])
    even, odd = call.node("MatMul", [cosines, x]), call.node("MatMul", [sines, x])
    if parts == 1:
        y = even if real else call.node("Concat", [even, odd], axis=-1)
    else:
        real_even, imaginary_even = call.nodes("Split", [even], 2, axis=-1, num_outputs=2)
        real_odd, imaginary_odd = call.nodes("Split", [odd], 2, axis=-1, num_outputs=2)
        y = call.node("Sub", [real_even, imaginary_odd])
        if not real:
            y = call.node("Concat", [y, call.node("Add", [imaginary_even, real_odd])], axis=-1)
    return y if rank > 2 else call.node("Squeeze", [y, integers(call, 0)])


@converter("STFT", since=17, onesided=one_of(0, 1))
def stft(call: Call) -> Result:
    """Emit the transforms of frames, times the window."""
    x, rank, step = call.need("signal"), call.rank("signal"), _number(call, "frame_step")
    window = call.input("window")
    if call.input("frame_length") is not None:
        n = _number(call, "frame_length")
    elif window is not None:
        n = known_size(call, window, 0)
    else:
        raise ValueError("neither a window nor a frame_length is given; expected one")
    if rank not in (2, 3) or step < 1 or n < 1:
        raise ValueError(
            f"a signal of {rank} dimensions, frames of {n} places every {step}; expected 2 or 3, and 1 or more"
        )
    if rank == 2:  # a real signal, as ONNX Runtime takes it, too
        x = call.node("Unsqueeze", [x, integers(call, 2)])
    length = Dim(x, 1)
    offsets = np.arange(n, dtype=np.int64)
    if length.number is not None and length.number < n:
        raise ValueError(f"the signal has {length.number} places, a frame {n}")
    begins = window_starts(call, length, 1 - n, step)
    if isinstance(begins, Value):
        begins = call.node("Unsqueeze", [begins, integers(call, 1)])
        places = call.node("Add", [begins, call.constant(offsets, "offsets")])
    else:
        places = call.constant(begins[:, None] + offsets, "frames")
    frames = call.node("Gather", [x, places], axis=1)  # (batch, frames, n, 1 or 2)
    cosines, sines = matrices(call.op, n, False, bool(call.attribute("onesided", 1)))
    if window is not None:
        array = call.array("window")
        if array is not None and array.shape == (n,):
            cosines, sines = cosines * array, sines * array
        else:
            frames = call.node("Mul", [frames, call.node("Unsqueeze", [window, integers(call, 1)])])
    return call.last("Identity", [_transformed(call, frames, 4, known_size(call, x, 2), (cosines, sines), False)])


@converter("MelWeightMatrix", since=17, output_datatype=INT)
def mel_weight_matrix(call: Call) -> Result:
    """Compute the matrix, whose inputs are constants."""
    for i in range(len(call.inputs)):
        if len(known_values(call, i)) != 1:
            raise ValueError(f"input {i} has more than one element, or none")
    given = {f"i{i}": array.reshape(()) for i in range(5) if (array := call.array(i)) is not None}
    if abs(int(given["i0"])) * abs(int(given["i1"])) > LARGEST or int(given["i1"]) < 1:
        raise Unsupported(f"MelWeightMatrix of {int(given['i0'])} bins and {int(given['i1'])} points")
    node = helper.make_node("MelWeightMatrix", list(given), ["y"])
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in given.items()
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opset = helper.make_opsetid("", min(17, defs.onnx_opset_version()))
    model = helper.make_model(helper.make_graph([node], "mel", infos, [y]), opset_imports=[opset])
    results: Any = ReferenceEvaluator(model).run(None, given)
    return call.own_constant(np.asarray(results[0]).astype(FLOAT32))
