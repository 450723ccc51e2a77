"""from_torch leaves the module and the examples that it is given as they were, and takes examples in several forms."""

from __future__ import annotations

import inspect
from collections import UserDict
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

import dynq  # noqa: E402


class Remembers(nn.Module):
    """Changes itself in forward, and cannot be exported if ``branches``."""

    def __init__(self, branches: bool) -> None:
        super().__init__()
        self.layer, self.branches = nn.Linear(8, 8), branches
        self.seen: list[Any] = []
        self.cache: dict[str, Any] = {}
        self.last: Any = None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        y: Tensor = self.layer(x)
        self.last = y
        self.cache["y"] = y
        self.seen.append(y)
        if self.branches and x.sum() > 0:
            return -y
        return y if other is None else y + other


def marks(x: Tensor) -> dict[str, Any]:
    return {name: value for name, value in vars(x).items() if "dynamo" in name}


@pytest.mark.parametrize("branches", [False, True])
@pytest.mark.parametrize("shapes", [None, "batch", "auto"])
def test_an_export_leaves_the_module_and_the_examples_as_they_were(branches: bool, shapes: Any) -> None:
    module, x = Remembers(branches).eval(), torch.rand(3, 8)
    hook = module.layer.register_forward_hook(lambda *_: None)
    if branches:
        with pytest.raises(dynq.UnsupportedModelError):
            dynq.from_torch(module, (x,), dynamic_shapes=shapes)
    else:
        dynq.from_torch(module, (x,), dynamic_shapes=shapes)
    assert (module.last, module.cache, module.seen) == (None, {}, [])
    assert list(module.layer._forward_hooks) == [hook.id]
    assert not marks(x)
    module.branches = False
    np.testing.assert_allclose(
        dynq.from_torch(module, (x,), quantize=False)(x.numpy()), module(x).detach(), rtol=1e-5, atol=1e-6
    )


def test_examples_with_a_gradient_and_one_that_is_given_twice() -> None:
    x = torch.rand(3, 8, requires_grad=True) * 1
    model = dynq.from_torch(Remembers(False).eval(), (x, x), quantize=False)
    assert x.requires_grad and not marks(x) and len(model.inputs) in (1, 2)


def test_examples_by_name_as_a_tokenizer_gives_them() -> None:
    module = Remembers(False).eval()
    examples = UserDict({"x": torch.rand(3, 8), "other": torch.rand(3, 8)})
    model = dynq.from_torch(module, examples, quantize=False)  # type: ignore[arg-type]
    assert [value.name for value in model.inputs] == ["x", "other"]
    got = model(*(value.numpy() for value in examples.values()))
    np.testing.assert_allclose(got, module(**examples).detach(), rtol=1e-5, atol=1e-6)


def test_a_data_parallel_module_is_the_module_in_it() -> None:
    module, x = Remembers(False).eval(), torch.rand(3, 8)
    wrapped = nn.DataParallel(module).eval()
    np.testing.assert_allclose(
        dynq.from_torch(wrapped, (x,), quantize=False)(x.numpy()), module(x).detach(), rtol=1e-5, atol=1e-6
    )


def test_caches_of_transformers_go_in_and_out() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 50}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32)
    module = transformers.LlamaModel(config).eval()
    parameters = inspect.signature(module.forward).parameters
    ids = torch.arange(10).reshape(2, 5)
    first = dynq.from_torch(module, {"input_ids": ids}, quantize=False)
    hidden, *cached = first.run({"input_ids": ids.numpy()}).values()
    with torch.no_grad():
        expected = module(ids)
        np.testing.assert_allclose(hidden, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
        cache = expected[1]
        named = {"input_ids": ids[:, :1], "cache" if "cache" in parameters else "past_key_values": cache}
        second = dynq.from_torch(module, kwargs=named, quantize=False)
        given = dict(zip([value.name for value in second.inputs], [ids[:, :1].numpy(), *cached], strict=True))
        result = next(iter(second.run(given).values()))
        expected = module(**named)
    np.testing.assert_allclose(result, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    assert cache.get_seq_length() == 6 and [op for _, op in second.nodes].count("dynq.Attention") == 2
