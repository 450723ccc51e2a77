"""torch.nn.Embedding and EmbeddingBag with int8 tables, a scale for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import Error
from ._live import Live
from ._module import SCALE, Entry, QuantizedModule, refuse_proxy, replace
from ._packed import pack_integers, panels, quantize_rows, scales, unpack

__all__ = ["Embedding", "EmbeddingBag", "ScaledEmbedding"]


class _Table(QuantizedModule):
    """Rows of int8 and their scales; or, where a linear layer has the same weight, that layer's packed weight."""

    packed_names = ("packed", "rows", "row_scale")
    num_embeddings: int
    embedding_dim: int
    dtype: torch.dtype  # of what comes out, as of the float table: nothing that goes in has one
    rows: Tensor | None
    row_scale: Tensor | None
    packed: Tensor | None
    weight = Live("The table that it looks into, float32 (num_embeddings, embedding_dim): a new tensor at each call.")

    def _init_table(
        self,
        n: int,
        d: int,
        rows: Tensor | None,
        row_scale: Tensor | None,
        packed: Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        self.num_embeddings = n
        self.embedding_dim = d
        self.dtype = dtype
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("row_scale", row_scale, persistent=False)
        self.register_buffer("packed", packed, persistent=False)
        self.training = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Table:
        """Apply ``half()`` and its like, which change the dtype of the output; scales stay float32."""
        scale = self.row_scale
        super()._apply(fn, recurse)
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        if scale is not None and self.row_scale is not None and self.row_scale.dtype != torch.float32:
            self.row_scale = scale.to(self.row_scale.device)
        return self

    def _integers(self) -> tuple[Tensor, Tensor]:
        if self.packed is not None:
            return unpack(self.packed, self.num_embeddings, self.embedding_dim)
        assert self.rows is not None and self.row_scale is not None
        return self.rows, self.row_scale

    def _look_up(self, index: Tensor) -> Tensor:
        """``float32(q) * scale`` of the rows, (..., D)."""
        refuse_proxy(self, index)
        if self.training:
            raise Error(f"dynq.torch.{type(self).__name__} is in training mode; call eval() on the model")
        if index.device.type != "cpu":
            raise ValueError(
                f"the input of dynq.torch.{type(self).__name__} is on {index.device}; dynq runs on the CPU"
            )
        if self.packed is None:
            assert self.rows is not None and self.row_scale is not None
            rows, scale = functional.embedding(index, self.rows), self.row_scale
        else:
            n, d = self.num_embeddings, self.embedding_dim
            rows = panels(self.packed, n, d)[index >> 4, :, index & 15].flatten(-2)[..., :d]
            scale = scales(self.packed, n, d)
        of_rows = torch.index_select(scale, 0, index.reshape(-1)).view(*index.shape, 1)
        return rows.to(torch.float32).mul_(of_rows)

    def entries(self) -> dict[str, Entry]:
        return {"weight": Entry((self.num_embeddings, self.embedding_dim), True)}

    def get_tensors(self) -> dict[str, Tensor]:
        rows, scale = self._integers()
        return {"weight": rows, "weight" + SCALE: scale}

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        rows, scale = (
            (tensors["weight"], tensors["weight" + SCALE].float())
            if "weight" + SCALE in tensors
            else quantize_rows(tensors["weight"])
        )
        if self.packed is not None:
            replace(self, "packed", pack_integers(rows, scale))
        else:
            replace(self, "rows", rows.detach().clone())
            replace(self, "row_scale", scale.detach().clone())


class Embedding(_Table):
    """Rows of an int8 table, computed in float32, in the dtype of the float one."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        rows: Tensor | None = None,
        row_scale: Tensor | None = None,
        packed: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._init_table(num_embeddings, embedding_dim, rows, row_scale, packed, dtype)
        self.padding_idx = padding_idx

    @classmethod
    def from_float(cls, module: nn.Embedding, **table: Tensor) -> Embedding:
        """``table``: rows and row_scale, or packed, where the table is quantized already."""
        n, d = module.num_embeddings, module.embedding_dim
        return cls(n, d, module.padding_idx, dtype=module.weight.dtype, **(table or _quantized(module.weight)))

    def forward(self, input: Tensor) -> Tensor:
        return self._look_up(input).to(self.dtype)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, int8"


class ScaledEmbedding(Embedding):
    """Rows of an int8 table times a number: the scaled word embeddings of transformers, and what is written alike."""

    embed_scale: Any

    @classmethod
    def from_float(cls, module: Any, **table: Tensor) -> ScaledEmbedding:
        """``table``: rows and row_scale, or packed, where the table is quantized already."""
        made = super().from_float(module, **table)
        assert isinstance(made, cls)
        scale = module.embed_scale
        if isinstance(scale, Tensor):
            made.register_buffer("embed_scale", scale.detach().clone(), persistent=False)
        else:
            made.embed_scale = scale
        return made

    def forward(self, input_ids: Tensor) -> Tensor:
        scale = self.embed_scale
        return super().forward(input_ids) * (scale.to(self.dtype) if isinstance(scale, Tensor) else scale)


class EmbeddingBag(_Table):
    """Sums, means or maxima of rows of an int8 table, computed in float32, in the dtype of the float one."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: Literal["sum", "mean", "max"] = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        rows: Tensor | None = None,
        row_scale: Tensor | None = None,
        packed: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._init_table(num_embeddings, embedding_dim, rows, row_scale, packed, dtype)
        self.mode = mode
        self.include_last_offset = include_last_offset
        self.padding_idx = padding_idx

    @classmethod
    def from_float(cls, module: nn.EmbeddingBag, **table: Tensor) -> EmbeddingBag:
        """``table``: rows and row_scale, or packed, where the table is quantized already."""
        mode: Any = module.mode
        return cls(
            module.num_embeddings,
            module.embedding_dim,
            mode,
            module.include_last_offset,
            module.padding_idx,
            dtype=module.weight.dtype,
            **(table or _quantized(module.weight)),
        )

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Run like torch.nn.EmbeddingBag: bags are the rows of ``input`` (B, S), or begin at ``offsets`` (B,)."""
        flat = input.reshape(-1)
        rows = self._look_up(flat)
        places = torch.arange(flat.shape[0]).view(input.shape)
        padding = None
        if self.padding_idx is not None:  # whatever is there looks at one more row, which does not count
            padding = flat.shape[0]
            rows = torch.cat([rows, rows.new_zeros(1, self.embedding_dim)])
            places = torch.where(input == self.padding_idx, padding, places)
        return functional.embedding_bag(
            places,
            rows,
            None if offsets is None else offsets.long(),
            mode=self.mode,
            per_sample_weights=None if per_sample_weights is None else per_sample_weights.float(),
            include_last_offset=self.include_last_offset,
            padding_idx=padding,
        ).to(self.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}, int8"


def _quantized(weight: Tensor) -> dict[str, Tensor]:
    return dict(zip(("rows", "row_scale"), quantize_rows(weight), strict=True))
