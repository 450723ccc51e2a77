"""torch.nn.MultiheadAttention with int8 projections; the attention itself is PyTorch's, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._live import Live
from ._module import SCALE, Entry, QuantizedModule, checked, refuse_proxy, replace
from ._packed import pack, unpack
from .linear import Linear, apply_linear, pack_any

__all__ = ["MultiheadAttention"]

_SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


class MultiheadAttention(QuantizedModule):
    """Arguments and shapes of ``forward`` are those of torch.nn.MultiheadAttention.

    ``in_proj`` is one packed weight (3 * embed_dim, embed_dim), or there are ``q_proj``, ``k_proj``, ``v_proj`` where
    keys or values have another width. ``out_proj`` is a dynq.torch.Linear.
    """

    packed_names = ("in_proj", "q_proj", "k_proj", "v_proj")
    in_proj: Tensor
    q_proj: Tensor
    k_proj: Tensor
    v_proj: Tensor
    in_proj_bias: Tensor | None
    bias_k: Tensor | None
    bias_v: Tensor | None
    in_proj_weight = Live("What it computes with, float32 (3 * embed_dim, embed_dim): a new tensor at each call.")
    q_proj_weight = Live("As ``in_proj_weight``, of the queries, where keys or values have another width.")
    k_proj_weight = Live("As ``q_proj_weight``, of the keys.")
    v_proj_weight = Live("As ``q_proj_weight``, of the values.")
    _qkv_same_embed_dim = False  # keeps torch.nn.TransformerEncoderLayer from its float path past this module

    def __init__(self, module: nn.MultiheadAttention, out_proj: Linear) -> None:
        super().__init__()
        self.embed_dim = module.embed_dim
        self.kdim = module.kdim
        self.vdim = module.vdim
        self.num_heads = module.num_heads
        self.head_dim = module.head_dim
        self.batch_first = module.batch_first
        self.add_zero_attn = module.add_zero_attn
        self.together = module.in_proj_weight is not None
        weights = {"in_proj_weight": module.in_proj_weight} if self.together else {
            name: getattr(module, name) for name in _SEPARATE
        }  # fmt: skip
        for name, weight in weights.items():
            self.register_buffer(_packed_name(name), pack(weight), persistent=False)
        for name in ("in_proj_bias", "bias_k", "bias_v"):
            bias = getattr(module, name)
            self.register_buffer(name, None if bias is None else bias.detach().float().clone(), persistent=False)
        self.out_proj = out_proj
        self.training = False

    @classmethod
    def from_float(cls, module: nn.MultiheadAttention) -> MultiheadAttention:
        return cls(module, Linear.from_float(module.out_proj))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """torch.nn.MultiheadAttention.forward: the output, and the weights where ``need_weights``."""
        refuse_proxy(self, query)
        if is_causal and attn_mask is None:
            raise ValueError("is_causal is True and attn_mask is None; expected the causal mask with the hint")
        dtype, batched = query.dtype, query.dim() == 3
        q, k, v = self._project(query, key, value)
        if not batched:
            q, k, v = (x.unsqueeze(0) for x in (q, k, v))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        if self.bias_k is not None and self.bias_v is not None:
            batch = k.shape[0]
            k, v = (torch.cat([x, b.expand(batch, 1, -1)], 1) for x, b in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (torch.cat([x, x.new_zeros(x.shape[0], 1, x.shape[2])], 1) for x in (k, v))
        if mask is not None and mask.shape[-1] < k.shape[1]:
            mask = functional.pad(mask, (0, k.shape[1] - mask.shape[-1]))
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        weights = None
        with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
            if need_weights:
                scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
                weights = torch.softmax(scores if mask is None else scores + mask, -1)
                attended = weights @ v
                weights = (weights.mean(1) if average_attn_weights else weights).to(dtype)
            else:
                attended = functional.scaled_dot_product_attention(q, k, v, mask)
        y: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2)).to(dtype)
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return (y if self.batch_first else y.transpose(0, 1)), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for x, width, what in ((query, self.embed_dim, "query"), (key, self.kdim, "key"), (value, self.vdim, "value")):
            if x.dim() not in (2, 3) or x.dim() != query.dim() or x.shape[-1] != width:
                raise ValueError(
                    f"{what} has shape {tuple(x.shape)}; expected 3 dimensions, or 2 without a batch, "
                    f"the last of {width}"
                )
        e, same = self.embed_dim, (query is key, key is value)
        q = checked(self, query, "query")
        k = q if same[0] else checked(self, key, "key")
        v = k if same[1] else checked(self, value, "value")
        bias = self.in_proj_bias
        if not self.together:
            parts = ((q, self.q_proj), (k, self.k_proj), (v, self.v_proj))
            biases = (None,) * 3 if bias is None else bias.chunk(3)
            q, k, v = (apply_linear(x, packed, b, e) for (x, packed), b in zip(parts, biases, strict=True))
            return q, k, v

        def part(x: Tensor, first: int, count: int) -> tuple[Tensor, ...]:
            """Return ``count`` of q, k and v, from ``first`` on."""
            if e % 16 == 0:  # a panel holds channels of one of them
                span = None if bias is None else bias[first * e : (first + count) * e]
                return apply_linear(x, self.in_proj, span, 3 * e, first * e, count * e).split(e, -1)
            return apply_linear(x, self.in_proj, bias, 3 * e).split(e, -1)[first : first + count]

        if all(same):
            q, k, v = part(q, 0, 3)
        elif same[1]:
            (q,), (k, v) = part(q, 0, 1), part(k, 1, 2)
        else:
            (q,), (k,), (v,) = part(q, 0, 1), part(k, 1, 1), part(v, 2, 1)
        return q, k, v

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Added to the scores, broadcast to (batch, heads, queries, keys)."""
        batch, queries, keys = q.shape[0], q.shape[1], k.shape[1]
        mask = None
        if attn_mask is not None:
            allowed = ((queries, keys), (batch * self.num_heads, queries, keys))
            if tuple(attn_mask.shape) not in allowed:
                raise ValueError(f"attn_mask has shape {tuple(attn_mask.shape)}; expected {allowed[0]} or {allowed[1]}")
            mask = _additive(attn_mask)
            mask = mask if mask.dim() == 2 else mask.view(batch, self.num_heads, queries, keys)
        if padding is not None:
            if tuple(padding.shape) != (batch, keys):
                raise ValueError(f"key_padding_mask has shape {tuple(padding.shape)}; expected {(batch, keys)}")
            of_keys = _additive(padding)[:, None, None, :]
            mask = of_keys if mask is None else mask + of_keys
        return mask

    def entries(self) -> dict[str, Entry]:
        e = self.embed_dim
        shapes = {"in_proj_weight": (3 * e, e)} if self.together else {
            name: (e, width) for name, width in zip(_SEPARATE, (e, self.kdim, self.vdim), strict=True)
        }  # fmt: skip
        result = {name: Entry(shape, True) for name, shape in shapes.items()}
        for name in ("in_proj_bias", "bias_k", "bias_v"):
            if (bias := getattr(self, name)) is not None:
                result[name] = Entry(tuple(bias.shape), False)
        return result

    def get_tensors(self) -> dict[str, Tensor]:
        result = {}
        for name, entry in self.entries().items():
            if entry.int8:
                result[name], result[name + SCALE] = unpack(getattr(self, _packed_name(name)), *entry.shape)
            else:
                result[name] = getattr(self, name)
        return result

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        for name, entry in self.entries().items():
            new = pack_any(tensors, name) if entry.int8 else tensors[name].detach().float()
            replace(self, _packed_name(name) if entry.int8 else name, new)

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}, int8"


def _packed_name(weight: str) -> str:
    return weight.removesuffix("_weight")


def _additive(mask: Tensor) -> Tensor:
    """A bool mask, True: not looked at, becomes 0 and -infinity."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float32).masked_fill_(mask, float("-inf"))
    return mask.float()
