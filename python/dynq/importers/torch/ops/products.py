"""Matrix products."""

from __future__ import annotations

from ....graph import Value
from ..call import Call, Result, converter


@converter("linear")
def linear(call: Call) -> Result:
    """``x W^T + bias``; a weight that is computed takes a product of two computed sides."""
    x, weight, bias = call.value("input"), call.value("weight"), call.optional("bias")
    if weight.array is not None and weight.array.ndim == 2 and call.rank("input") > 0 and x.constant is None:
        if bias is None or bias.array is not None:
            return call.emit("dynq.Linear", [x, weight, bias])
        return call.emit("Add", [call.node("dynq.Linear", [x, weight]), bias])
    product = call.node("MatMul", [x, call.transpose(weight, [1, 0] if call.rank("weight") == 2 else [0])])
    return product if bias is None else call.emit("Add", [product, bias])


@converter("addmm addmv baddbmm")
def add_product(call: Call) -> Result:
    """``beta * self + alpha * a b``."""
    a, b = (call.value(name) for name in _operands(call))
    alpha, beta = (float(call.fixed(name, 1)) for name in ("alpha", "beta"))
    if call.op == "aten.addmm" and alpha == beta == 1 and b.array is not None and a.constant is None:
        bias = call.value("self")
        weight = call.graph.constant(b.array.T, call.graph.unique_value(b.name))
        n = b.array.shape[1]
        if bias.array is not None and bias.array.shape == (n,):
            return call.emit("dynq.Linear", [a, weight, bias])
        return call.emit("Add", [call.node("dynq.Linear", [a, weight]), bias])
    product = call.node("MatMul", [a, b])
    if alpha != 1:
        product = call.node("Mul", [product, call.floats(alpha)])
    if beta == 0:
        call.get("self")
        return product
    left = call.value("self")
    return call.emit("Add", [left if beta == 1 else call.node("Mul", [left, call.floats(beta)]), product])


def _operands(call: Call) -> tuple[str, str]:
    if call.has("batch1"):
        return "batch1", "batch2"
    return ("mat", "vec") if call.has("vec") else ("mat1", "mat2")


@converter("mm bmm matmul mv dot linalg_matmul")
def product(call: Call) -> Result:
    names = [name for name in ("self", "input") if call.has(name)][:1]
    names += [name for name in ("other", "mat2", "vec", "tensor") if call.has(name)][:1]
    a, b = (call.value(name) for name in names)
    return call.emit("MatMul", [a, b])


def transposed(call: Call, x: Value, rank: int) -> Value:
    """The last two dimensions swapped."""
    return call.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


@converter("bilinear")
def bilinear(call: Call) -> Result:
    """``y_o = x1 W_o x2 + b_o``: one product with all W_o beside each other, then with x2."""
    x1, x2, bias = call.value("input1"), call.value("input2"), call.optional("bias")
    outputs, of_first, of_second = (int(size) for size in call.fake("weight").shape)
    weight = call.transpose(call.value("weight"), (1, 0, 2))
    flat = call.node("Reshape", [weight, call.axes([of_first, outputs * of_second])])
    sizes = [*call.result.shape, of_second]
    each = call.reshape(call.node("MatMul", [x1, flat]), sizes)
    rank = len(sizes)
    products = call.node("Mul", [each, call.unsqueeze(x2, rank - 2)])
    y = call.node("ReduceSum", [products, call.axes([rank - 1])], keepdims=0)
    return y if bias is None else call.emit("Add", [y, bias])


@converter("_cdist_forward")
def distances(call: Call) -> Result:
    """The distance of each row of one tensor to each row of the other, by the norm of order 1 or 2."""
    call.get("compute_mode")
    call.only("p", 1.0, 2.0)
    rank = len(call.result.shape)
    a, b = call.unsqueeze(call.value("x1"), rank - 1), call.unsqueeze(call.value("x2"), rank - 2)
    norm = f"ReduceL{int(call.fixed('p'))}"
    return call.emit(norm, [call.node("Sub", [a, b]), call.axes([rank])], keepdims=0)


@converter("linalg_det det _linalg_det")
def determinant(call: Call) -> Result:
    result = call.emit("Det", [call.value("A" if call.has("A") else "self")])
    return [result, None, None] if call.op == "aten._linalg_det" else result
