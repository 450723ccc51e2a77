"""A decoder of transformers as a graph with state: its attention becomes dynq's while torch.export looks at it.

transformers has tables of functions for attention and for masks. Ours stand in them for the time of the export. The
mask is a note of what it would be, the cache gives back the new keys and values alone, and attention is one op.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from ...conversion import Unsupported, UnsupportedModelError

__all__ = ["NAMESPACE", "Decoder", "Mask", "attention_of_dynq", "attention_shape", "cache_name", "new_cache"]

NAMESPACE = "dynq_export"
NAME = "dynq"
_EXAMPLE = (2, 5)  # sequences, rows
_PROBED = 7  # positions at which a mask is looked at, around the edge of its window

_library = torch.library.Library(NAMESPACE, "FRAGMENT")
_library.define(
    "cached_attention(Tensor q, Tensor k, Tensor v, Tensor lengths, Tensor? sinks, Tensor? distances, int layer, "
    "float scale, float softcap, int window, int most) -> Tensor"
)
_library.define("positions(Tensor ids, Tensor lengths) -> Tensor")


def attention_shape(q: Any, k: Any, v: Any, *rest: Any) -> Any:
    """Return an empty tensor like the result of attention: (sequences, rows, heads * width)."""
    return q.new_empty((q.shape[0], q.shape[2], q.shape[1] * v.shape[3]))


def _positions_shape(ids: Any, lengths: Any) -> Any:
    return torch.empty_like(ids, dtype=torch.int64)


torch.library.register_fake(f"{NAMESPACE}::cached_attention", attention_shape, lib=_library)
torch.library.register_fake(f"{NAMESPACE}::positions", _positions_shape, lib=_library)


class Mask:
    """A note of a mask: each position looks at those up to it, at most ``window`` of them if that is not 0.

    Or at all, if it is not ``causal``.
    """

    def __init__(self, window: int, causal: bool = True) -> None:
        self.window = window
        self.causal = causal

    def __radd__(self, other: Any) -> Any:
        raise Unsupported(
            "attention that computes with its mask, outside of transformers' table of attention functions"
        )

    __add__ = __getitem__ = __radd__


class Decoder(torch.nn.Module):  # type: ignore[misc]
    """A model for causal language modelling that takes new ids alone, and the places whose logits are wanted."""

    def __init__(self, model: Any, most: int) -> None:
        super().__init__()
        self.model = model
        self.most = most  # positions
        self.lengths: Any = None
        self.places: Any = None
        self.layers = 0  # that have called attention
        self.eval()

    def inputs(self) -> dict[str, tuple[Any, dict[int, str]]]:
        """Return an example of each input by name, and the names of its open sizes."""
        count, rows = _EXAMPLE[0], min(_EXAMPLE[1], self.most)
        return {
            "input_ids": (torch.ones(count, rows, dtype=torch.int64), {0: "batch", 1: "rows"}),
            "lengths": (torch.full((count,), rows), {0: "batch"}),
            "logits_at": (torch.zeros(count, 3, dtype=torch.int64), {0: "batch", 1: "wanted"}),
        }

    def context(self) -> Any:
        """Return what the model needs changed while it is exported."""
        return nullcontext()

    def forward(self, input_ids: Any, lengths: Any, logits_at: Any) -> Any:
        self.lengths, self.places, self.layers = lengths, logits_at, 0
        taken = inspect.signature(self.model.forward).parameters
        given: dict[str, Any] = {cache_name(taken): new_cache(), "use_cache": True}
        if "position_ids" in taken:
            given["position_ids"] = torch.ops.dynq_export.positions(input_ids, lengths)
        return self.model(input_ids=input_ids, return_dict=True, **given).logits

    def chosen_rows(self, head: Any, inputs: Any) -> Any:
        """Return the rows whose logits are wanted, in the place of all that reach the head."""
        rows = inputs[0]
        index = self.places.unsqueeze(-1).expand(-1, -1, rows.shape[-1])
        return (rows.gather(1, index), *inputs[1:])

    def attention(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        softcap: float | None = None,
        sliding_window: int | None = None,
        **others: Any,
    ) -> tuple[Any, None]:
        """Attend as transformers' functions do."""
        names = ("position_bias", "head_mask")
        known = attention_mask is None or (isinstance(attention_mask, Mask) and attention_mask.causal)
        causal = others.get("is_causal", getattr(module, "is_causal", True))
        if not known or causal is False or any(others.get(name) is not None for name in names):
            raise Unsupported(f"attention of {type(module).__name__} with a mask or bias of its own")
        window = attention_mask.window if isinstance(attention_mask, Mask) else int(sliding_window or 0)
        y = torch.ops.dynq_export.cached_attention(
            query, key, value, self.lengths, others.get("s_aux"), others.get("distances"), self.layers,
            query.shape[-1] ** -0.5 if scaling is None else float(scaling), float(softcap or 0.0), window, self.most,
        )  # fmt: skip
        self.layers += 1
        return y.view(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None


def cache_name(taken: Any) -> str:
    """Return the name that a model has for its cache, of those that its function takes."""
    return "cache" if "cache" in taken else "past_key_values"


def new_cache(note: Callable[[Any], None] = lambda keys: None) -> Any:
    """Return a cache without memory: what it is given is what it gives. ``note`` sees the keys."""
    from transformers.cache_utils import DynamicCache

    def update(self: Any, keys: Any, values: Any, *rest: Any, **more: Any) -> Any:
        note(keys)
        return keys, values

    methods: dict[str, Any] = {
        "update": update,
        "get_seq_length": lambda self, *rest, **more: 0,
        "get_mask_sizes": lambda self, length, *rest, **more: (length, 0),
    }
    return type("NewCache", (DynamicCache,), methods)()


def _mask(*rest: Any, mask_function: Any = None, local_size: int | None = None, **more: Any) -> Mask:
    """Return the note of a mask, if it is one that looks back, as far as a window goes, or one that looks at all."""
    if mask_function is not None and local_size is None and _looks_at_all(mask_function):
        return Mask(0, causal=False)
    window = int(local_size or 0)
    edge = max(window, _PROBED)
    for q in (*range(_PROBED), edge, edge + _PROBED):
        for k in {*range(min(q, _PROBED) + 2), *range(max(q - edge - 1, 0), max(q - edge - 1, 0) + 3), q, q + 1}:
            seen = k <= q and (not window or k > q - window)
            if mask_function is not None and bool(mask_function(0, 0, torch.tensor(q), torch.tensor(k))) != seen:
                raise Unsupported("a mask that is neither causal nor a window")
    return Mask(window)


def _looks_at_all(mask_function: Any) -> bool:
    places = [torch.tensor(i) for i in range(_PROBED)]
    return all(bool(mask_function(0, 0, q, k)) for q in places for k in places)


@contextmanager
def attention_of_dynq(decoder: Decoder) -> Iterator[None]:
    """Let the model attend by ``decoder.attention``; afterwards it is as it was."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    model = decoder.model
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModelError(f"{type(model).__name__} has no output layer that gives logits", {})
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}.values()
    before = [config._attn_implementation for config in configs]
    hook = head.register_forward_pre_hook(decoder.chosen_rows)
    ALL_ATTENTION_FUNCTIONS.register(NAME, decoder.attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask)
    try:
        for config in configs:
            config._attn_implementation = NAME
        with decoder.context():
            yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
        hook.remove()
        for table in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
            table._global_mapping.pop(NAME, None)
