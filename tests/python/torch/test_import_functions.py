"""dynq.from_torch: composed functions, windows of any size, sizes that values decide, and complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

import dynq  # noqa: E402


def floats(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


class Standardized(nn.Conv2d):
    """A convolution whose weight gets mean 0 and variance 1 for each output channel."""

    def forward(self, x: Any) -> Any:
        weight = F.batch_norm(self.weight.flatten(1)[None], None, None, training=True, eps=1e-6)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias)


def check(function: Callable[..., Any], *inputs: Any, others: Any = (), tolerance: float = 2e-6) -> None:
    """Compare what the model of a function gives with what the function does, for all its outputs.

    ``others`` has further inputs of the same shapes, for which values decide other sizes.
    """
    module = (function if isinstance(function, nn.Module) else Function(function)).eval()
    model = dynq.from_torch(module, inputs, quantize=False)
    for tensors in (inputs, *others):
        results = model.run({i.name: tensor.numpy() for i, tensor in zip(model.inputs, tensors, strict=True)})
        wanted = module(*tensors)
        wanted = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        assert len(results) == len(wanted)
        for got, want in zip(results.values(), wanted, strict=True):
            want = want.detach().numpy()
            assert got.shape == want.shape and got.dtype == want.dtype
            scale = np.abs(want[np.isfinite(want)]).max(initial=1e-30) if want.dtype == np.float32 else 1
            np.testing.assert_allclose(got, want, rtol=0 if want.dtype != np.float32 else 1e-5, atol=tolerance * scale)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "expm1": lambda x: torch.expm1(x * 1e-3) + torch.expm1(3 * x),
    "hypot": lambda x: torch.hypot(x, x.flip(0)),
    "copysign": lambda x: torch.copysign(x, -x.flip(1)),
    "fmax, fmin": lambda x: (torch.fmax(x, x.flip(0)), torch.fmin(torch.where(x > 0.5, torch.nan, x), x.flip(0))),
    "trunc, frac": lambda x: (torch.trunc(3 * x), torch.frac(3 * x)),
    "round": lambda x: (torch.round(x, decimals=2), torch.round(1000 * x, decimals=-2)),
    "pow": lambda x: x.abs() ** 0.75,
    "bits": lambda x: ((10 * x).long() & 6, (10 * x).long() | 3, (10 * x).long() ^ 5, ~(10 * x).long()),
    "shifts": lambda x: ((10 * x).long() << 3, (100 * x).long() >> 2, (100 * x).int() >> 1),
    "bucketize": lambda x: [
        torch.bucketize(x, torch.tensor([-1.0, 0.25, 0.25, 1.0]), right=right) for right in (False, True)
    ],
    "searchsorted": lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), x, side="right"),
    "hstack": lambda x: (torch.hstack([x, x]), torch.hstack([x[0], x[1]]), torch.hstack([x[0, 0], x[0, 1]])),
    "diagonal": lambda x: (x.diagonal(), x.diagonal(2), x.diagonal(-1, 1, 0), torch.diagonal(x[None], 1, 2, 1)),
    "median": lambda x: (x.median(), *x.median(1), *x.kthvalue(2, 0, keepdim=True)),
    "cumprod": lambda x: x.cumprod(1),
    "scatter": lambda x: (
        x.scatter_add(1, torch.tensor([[0, 0, 2], [1, 1, 1]]), x.flip(0)),
        x.scatter_reduce(0, torch.tensor([[0, 0, 2, 1, 1]]), x[:1], "amax"),
        x.scatter_reduce(0, torch.tensor([[0, 0, 2, 1, 1]]), x[:1], "prod"),
    ),
    "scatter_reduce, with what is there and without": lambda x: [
        x.scatter_reduce(1, torch.tensor([[0, 0, 2], [1, 1, 1]]), x.flip(0), how, include_self=include)
        for how in ("sum", "prod", "mean", "amax", "amin")
        for include in (True, False)
    ],
    "batch_norm, by the batch's own statistics": lambda x: (
        F.batch_norm(x, None, None, training=True),
        F.batch_norm(x[None], None, None, weight=x[0, :4], bias=x[1, :4], training=True, eps=1e-3),
    ),
    "index_add": lambda x: (
        x.index_add(0, torch.tensor([2, 0, 2]), x[:3], alpha=3),
        x.index_add(1, torch.tensor([1, 1]), x[:, :2]),
    ),
    "accumulate": lambda x: x.index_put((torch.tensor([1, 1]), torch.tensor([0, 0])), x[0, :2], accumulate=True),
    "distances": lambda x: (torch.cdist(x, x[:3]), torch.cdist(x[None], x[None, 1:], p=1.0)),
    "repeat": lambda x: x.repeat_interleave(torch.tensor([2, 0, 1, 3]), 0),
    "determinant": lambda x: torch.linalg.det(x[:4, :4]),
}


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 3])
def test_bags_of_embeddings(mode: str, padding: int | None) -> None:
    rows, bags = torch.tensor([[1, 3, 5], [3, 3, 3], [9, 0, 1]]), torch.tensor([0, 2, 2, 5])
    module = nn.EmbeddingBag(10, 4, mode=mode, padding_idx=padding)
    check(module, rows)
    check(module, rows.reshape(-1), bags, others=[(rows.flip(0).reshape(-1), torch.tensor([0, 0, 1, 9]))])
    last = nn.EmbeddingBag(10, 4, mode=mode, include_last_offset=True)
    check(last, rows.reshape(-1), torch.cat([bags, torch.tensor([9])]))
    if mode == "sum":
        check(lambda i, w: F.embedding_bag(i, module.weight, per_sample_weights=w, mode=mode), rows, floats(3, 3))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    check(FUNCTIONS[name], floats(4, 5))


class Moved(nn.Module):
    """A module that writes a buffer anew, as it is, before it reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", floats(4, 5, seed=1))

    def forward(self, x: Any) -> Any:
        self.table = self.table.to(x.device)
        return x + self.table


def test_a_buffer_that_is_written_as_it_is_stays() -> None:
    check(Moved(), floats(4, 5))


def test_what_a_mask_picks_is_written_back() -> None:
    def doubled(x: Any) -> Any:
        y, rows = x.clone(), x.clone()
        y[x > 0] = 2 * x[x > 0]
        rows[x[:, 0] > 0] = x[x[:, 0] > 0].exp()
        return y, rows

    check(doubled, floats(4, 5), others=[(floats(4, 5, seed=1),), (-floats(4, 5).abs(),)])


ARANGES: dict[str, Callable[..., Any]] = {
    "whole floats": lambda x: torch.arange(x.shape[0], -x.shape[0], -1.0),
    "whole floats as integers": lambda x: torch.arange(x.shape[0], -x.shape[0], -1.0, dtype=torch.int64),
    "the square of a size": lambda x: torch.arange(x.shape[0] * x.shape[0]),
    "a fraction of a size": lambda x: torch.arange(0.5, x.shape[0]),
}


@pytest.mark.parametrize("name", ARANGES)
def test_numbers_in_order_whose_limits_are_sizes(name: str) -> None:
    module = Function(ARANGES[name])
    model = dynq.from_torch(module, (floats(4, 2),), dynamic_shapes="batch", quantize=False)
    for rows in (4, 7):
        x = floats(rows, 2)
        want = module(x).numpy()
        got = model(x.numpy())
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_a_weight_that_forward_standardizes_is_a_constant_of_its_layer() -> None:
    module, x = Standardized(8, 16, 3), floats(1, 8, 6, 6)
    check(module, x)
    rows = [row for row in dynq.from_torch(module.eval(), (x,)).report().rows if row.layer and row.bytes_before]
    assert [row.quantized for row in rows] == [True]


def test_the_angle_of_every_direction_and_of_zeros() -> None:
    ends = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-30, -3e30, float("inf"), float("-inf")])
    y, x = torch.meshgrid(ends, ends, indexing="ij")
    finite = dynq.from_torch(Function(torch.atan2), (y, x), quantize=False)(y.numpy(), x.numpy())
    expected = torch.atan2(y, x).numpy()
    np.testing.assert_allclose(finite, expected, rtol=3e-7)
    assert np.array_equal(np.signbit(finite), np.signbit(expected))


@given(
    st.tuples(*[st.integers(3, 6)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.tuples(*[st.integers(0, 1)] * 3),
    st.sampled_from([1, 2]),
)
@settings(max_examples=15, deadline=None)
def test_volumes(
    sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], pad: tuple[int, ...], groups: int
) -> None:
    x = floats(2, 4, *sizes)
    pad = tuple(min(p, k // 2) for p, k in zip(pad, kernel, strict=True))
    check(nn.Conv3d(4, 6, kernel, stride, pad, groups=groups), x)
    check(nn.ConvTranspose3d(4, 6, kernel, stride, pad, groups=groups), x)
    check(nn.MaxPool3d(kernel, stride, pad, ceil_mode=True), x)
    check(nn.AvgPool3d(kernel, stride, pad, count_include_pad=groups == 1), x)


def test_volumes_without_a_batch_and_with_dilation() -> None:
    check(nn.Conv3d(2, 3, 2, dilation=(2, 1, 2)), floats(2, 5, 4, 5))
    check(nn.ConvTranspose3d(2, 3, 3, stride=2, output_padding=1, dilation=(2, 1, 1)), floats(1, 2, 3, 4, 3))
    check(nn.Conv3d(2, 2, 3, padding="same"), floats(1, 2, 4, 4, 4))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_adaptive_pools_of_windows_that_overlap(height: int, width: int, rows: int, columns: int) -> None:
    x = floats(2, 3, height, width)
    check(nn.AdaptiveAvgPool2d((rows, columns)), x)
    check(nn.AdaptiveMaxPool2d((rows, None)), x)
    check(lambda x: F.interpolate(x, size=(rows, columns), mode="area"), x)


def test_a_pool_whose_window_is_larger_than_the_image_is_one_of_it_all() -> None:
    check(nn.AvgPool2d(2560, ceil_mode=True), floats(1, 3, 7, 8))
    check(nn.MaxPool2d(9, stride=3, padding=1, ceil_mode=True), floats(1, 3, 5, 6))


def test_places_of_maxima_and_the_way_back() -> None:
    check(lambda x: F.max_pool2d(x, 2, return_indices=True), floats(2, 3, 6, 8))
    check(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), floats(2, 3, 6, 8))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(5, 4), (11, 3), (16, 9)])
def test_images_are_resized_without_aliases(mode: str, size: tuple[int, int]) -> None:
    check(lambda x: F.interpolate(x, size=size, mode=mode, antialias=True), floats(1, 2, 9, 10), tolerance=5e-6)
    check(lambda x: F.interpolate(x, scale_factor=0.37, mode=mode, antialias=True), floats(1, 2, 9, 10), tolerance=5e-6)


def test_windows_that_overlap_are_put_together_and_blocks_taken_apart() -> None:
    check(nn.Fold((6, 7), 3, stride=2, padding=1), floats(2, 18, 12))
    check(nn.PixelUnshuffle(3), floats(2, 2, 6, 9))


SELECTIONS: dict[str, Callable[..., Any]] = {
    "nonzero": lambda x: torch.nonzero(x > 0),
    "where": lambda x: torch.where(x > 0),
    "masked_select": lambda x: torch.masked_select(x[0], x > 0.2),
    "mask": lambda x: x[x > 0],
    "mask of rows": lambda x: x[x[:, 0] > 0] * 2,
    "mask of columns": lambda x: x[:, x[0] > 0].sum(1),
    "mask in front": lambda x: x.reshape(2, 2, 5)[x.reshape(2, 2, 5)[..., 0] > 0],
    "masked_scatter": lambda x: x.masked_scatter(x > 0, torch.arange(20.0)),
    "unique": lambda x: torch.unique(x.round(), return_inverse=True, return_counts=True),
    "sizes that values decide": lambda x: torch.nonzero(x > 0).shape[0] + x,
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_values_decide_how_many_are_picked(name: str) -> None:
    more = [(floats(4, 5, seed=1),), (floats(4, 5, seed=2).abs() + 0.3,)]
    check(SELECTIONS[name], floats(4, 5), others=more)


@pytest.mark.parametrize("function", [torch.rand_like, torch.randn_like, lambda x: torch.bernoulli(x * 0 + 0.25)])
def test_random_numbers_are_those_of_a_seed_and_distributed_as_torch_says(function: Callable[..., Any]) -> None:
    x = floats(200, 50)
    model = dynq.from_torch(Function(function), (x,), quantize=False)
    y, expected = model(x.numpy()), function(x).numpy()
    assert np.array_equal(y, model(x.numpy())) and y.dtype == expected.dtype and y.shape == expected.shape
    assert abs(y.mean() - expected.mean()) < 0.03 and abs(y.std() - expected.std()) < 0.03


# ---- Complex numbers


def rotated(x: Any) -> Any:
    """Return pairs of x turned by angles, as rotary embeddings are written with complex numbers."""
    angles = torch.outer(torch.arange(x.shape[-2]), 0.5 ** torch.arange(x.shape[-1] // 2))
    turns = torch.polar(torch.ones_like(angles), angles)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


COMPLEX: dict[str, Callable[..., Any]] = {
    "parts": lambda x: (torch.fft.rfft(x).real, torch.fft.rfft(x).imag),
    "size and angle": lambda x: (torch.fft.rfft(x).abs(), torch.fft.rfft(x)[..., 1:4].angle()),
    "norms": lambda x: [torch.view_as_real(torch.fft.fft(x, norm=norm)) for norm in ("forward", "backward", "ortho")],
    "there and back": lambda x: (torch.fft.irfft(torch.fft.rfft(x)), torch.fft.ifft(torch.fft.fft(x)).real),
    "another length": lambda x: (torch.fft.rfft(x, n=8).abs(), torch.fft.irfft(torch.fft.rfft(x), n=9)),
    "two axes": lambda x: (torch.fft.rfft2(x).abs(), torch.fft.fft2(x).imag, torch.fft.irfft2(torch.fft.rfft2(x))),
    "another axis": lambda x: torch.fft.rfft(x, dim=0).abs(),
    "arithmetic": lambda x: torch.view_as_real(
        (torch.fft.rfft(x) * torch.fft.rfft(x).conj() + 2 - 3j * torch.fft.rfft(x)) / 4
    ),
    "polar": lambda x: torch.view_as_real(torch.polar(x.abs(), x)),
    "moved": lambda x: torch.view_as_real(torch.fft.rfft(x).transpose(0, 1)[1:3].unsqueeze(0).reshape(-1, 3)),
    "rotary": rotated,
    "phase": lambda x: torch.view_as_real(torch.exp(1j * torch.tensor(0.5)) * torch.fft.rfft(x)),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers(name: str) -> None:
    check(COMPLEX[name], floats(3, 12), tolerance=5e-6)


@pytest.mark.parametrize("center", [False, True])
def test_spectrograms_there_and_back(center: bool) -> None:
    window = torch.hann_window(16)

    def spectrum(x: Any) -> Any:
        return torch.stft(x, 16, 4, window=window, center=center, return_complex=True)

    check(lambda x: spectrum(x).abs() ** 2, floats(2, 64), tolerance=5e-6)
    if center:
        check(lambda x: torch.istft(spectrum(x), 16, 4, window=window), floats(2, 64), tolerance=1e-5)


def test_transforms_stay_float_in_an_int8_model() -> None:
    model = dynq.from_torch(Function(lambda x: torch.fft.rfft(x).abs()), (floats(3, 64),))
    x = floats(3, 64, seed=1)
    np.testing.assert_allclose(model(x.numpy()), torch.fft.rfft(x).abs().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (torch.fft.rfft, "an output of complex numbers; return torch.view_as_real of it"),
        (lambda x: torch.fft.rfft(x).sqrt().real, "op aten.sqrt of complex numbers"),
        (lambda x: x.long() << (x > 0).long(), "by other than a fixed number"),
        (
            lambda x: x.long().scatter_reduce(1, torch.zeros(3, 12, dtype=torch.long), x.long(), "mean"),
            "with reduce = 'mean' of int64",
        ),
        (lambda x: torch.cdist(x, x, p=3.0), "with p = 3.0; expected 1.0 or 2.0"),
    ],
)
def test_what_cannot_be_computed_is_named(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(dynq.UnsupportedModelError, match=reason):
        dynq.from_torch(Function(function), (floats(3, 12),))
