"""What tests of imported PyTorch modules share."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

import dynq
from dynq.importers.torch import to_graph

__all__ = ["check", "cosine", "expected", "floats", "ops", "results"]


def floats(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def expected(module: Any, *args: Any, **kwargs: Any) -> list[np.ndarray[Any, Any]]:
    with torch.no_grad():
        result = module(*args, **kwargs)
    return [x.numpy() for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]


def results(model: dynq.Model, *inputs: Any) -> list[np.ndarray[Any, Any]]:
    made = model(*(np.asarray(x) for x in torch.utils._pytree.tree_leaves(inputs)))
    return list(made) if isinstance(made, tuple) else [made]


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def check(module: Any, *inputs: Any, shapes: Any = None, others: Any = (), least: float = 0.999) -> dynq.Model:
    """float32 gives what the module gives but for rounding, int8 nearly so; returns the int8 model."""
    graph = to_graph(module.eval(), inputs, dynamic_shapes=shapes)
    exact, model = graph.build(quantize=False), graph.build()
    for given in (inputs, *others):
        for result, rough, wanted in zip(
            results(exact, *given), results(model, *given), expected(module, *given), strict=True
        ):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)
            assert cosine(rough, wanted) > least
    return model


def ops(model: dynq.Model) -> Counter[str]:
    return Counter(op for _, op in model.nodes)
