"""Images that PyTorch enlarges or reduces, by from_torch and through ONNX, at sizes that no scale gives exactly."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

import dynq  # noqa: E402
from tests.python.references.onnx_models import model, node  # noqa: E402


class Interpolate(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, **self.options)


def compare(x: Tensor, **options: Any) -> dynq.Model:
    module = Interpolate(**options).eval()
    made = dynq.from_torch(module, (x,), quantize=False)
    exact = "nearest" in options["mode"]
    np.testing.assert_allclose(made(x.numpy()), module(x).numpy(), rtol=0 if exact else 1e-5, atol=0 if exact else 1e-5)
    return made


SCALES = [(1.7, 0.6), (0.7, 1.1), (2.0, 3.0), (0.9, 1.3333333), (1.0, 0.5)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "corners"])
@pytest.mark.parametrize("recompute", [False, True])
def test_scales_that_give_no_whole_size(scale: tuple[float, float], mode: str, recompute: bool) -> None:
    options: dict[str, Any] = {"mode": mode, "scale_factor": scale, "recompute_scale_factor": recompute}
    if mode == "corners":
        options |= {"mode": "bilinear", "align_corners": True}
    for size in ((5, 7), (10, 10), (1, 30), (13, 20)):
        if min(int(n * s) for n, s in zip(size, scale, strict=True)):
            compare(torch.rand(1, 2, *size), **options)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "corners"])
def test_all_pairs_of_small_sizes(mode: str) -> None:
    options: dict[str, Any] = {"mode": "linear", "align_corners": True} if mode == "corners" else {"mode": mode}
    sizes = [(a, b) for a in (1, 2, 3, 7, 14, 29) for b in (1, 2, 5, 9, 20, 41)]

    class All(nn.Module):
        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            pairs = zip(inputs, sizes, strict=True)
            return tuple(nn.functional.interpolate(x, size=to, **options) for x, (_, to) in pairs)

    inputs = tuple(torch.rand(1, 2, size) for size, _ in sizes)
    got = dynq.from_torch(All().eval(), inputs, quantize=False)(*[x.numpy() for x in inputs])
    for mine, right in zip(got, All()(*inputs), strict=True):
        np.testing.assert_allclose(mine, right.numpy(), rtol=0, atol=1e-5 if "nearest" not in mode else 0)


def test_places_that_rounding_tells_apart_are_picked_as_torch_picks_them() -> None:
    """At these torch's float32 gives another place than exact arithmetic."""
    found = 0
    for size in range(2, 60):
        for to in range(size + 1, 80):
            step = np.float32(size) / np.float32(to)
            mine = np.floor(np.arange(to, dtype=np.float32) * step)
            exact = np.arange(to) * size // to
            if not np.array_equal(np.minimum(mine, size - 1), exact) and found < 3:
                found += 1
                compare(torch.rand(1, 1, size), mode="nearest", size=to)
    assert found


def test_corners_stay_in_place_in_onnx_where_a_scale_gives_no_whole_size() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 7), np.float32)
    scales = np.array([1, 1, 1.7, 0.6], np.float32)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    proto = model([node("Resize", "x - s", "y", **attributes)], {"x": ("float32", x.shape)}, "y", {"s": scales})
    right = nn.functional.interpolate(torch.from_numpy(x), size=(8, 4), mode="bilinear", align_corners=True)
    got = dynq.from_onnx(proto, quantize=False)(x)
    np.testing.assert_allclose(got, right.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got[..., [0, -1], [0, -1]], x[..., [0, -1], [0, -1]])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("corners", [False, True])
def test_a_file_that_torch_exports(tmp_path: Path, corners: bool) -> None:
    module = Interpolate(scale_factor=(1.7, 0.6), mode="bilinear", align_corners=corners).eval()
    x = torch.rand(1, 2, 5, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), tmp_path / "m.onnx", dynamo=False, opset_version=17)
    np.testing.assert_allclose(dynq.from_onnx(tmp_path / "m.onnx")(x.numpy()), module(x).numpy(), atol=1e-5)
