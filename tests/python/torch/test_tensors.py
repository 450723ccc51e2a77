"""A built model takes tensors of PyTorch where it takes arrays."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import dynq  # noqa: E402


def test_a_model_takes_tensors() -> None:
    rng = np.random.default_rng(11)
    g = dynq.Graph()
    x, ids = g.input("x", ("batch", 8)), g.input("ids", ("batch",), "int64")
    table = rng.standard_normal((50, 8), np.float32)
    model = g.build(g.linear(x, rng.standard_normal((8, 8), np.float32), residual=g.embedding(table, ids)))
    values, indices = rng.standard_normal((3, 8), np.float32), np.array([4, 0, -1])
    expected = model(values, indices)
    x, ids = torch.from_numpy(values), torch.from_numpy(indices)
    np.testing.assert_array_equal(model(x=x.requires_grad_(), ids=ids), expected)
    half = x.detach().bfloat16()
    np.testing.assert_array_equal(model(half, ids), model(half.float(), ids))
    with pytest.raises(TypeError, match="input 'x' is on the device meta; expected the CPU"):
        model(x.to("meta"), ids)
