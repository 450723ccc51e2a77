"""Define networks for pictures in PyTorch, with random weights, for ``dynq bench models --suite vision``.

Widths, depths and kernels are those of the papers: ResNet (He et al. 2015), MobileNetV2 and V3 (Sandler et al. 2018,
Howard et al. 2019), EfficientNet (Tan and Le 2019). YOLOv8n follows its public configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["NETWORKS", "build", "picture"]

Activation = Callable[[], nn.Module] | None


def conv(
    channels: int, out: int, kernel: int, stride: int = 1, act: Activation = nn.ReLU, groups: int = 1
) -> nn.Sequential:
    """Make a convolution that keeps the size but for its stride, batch norm, and an activation."""
    parts: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, momentum=None),
    ]
    return nn.Sequential(*parts, *([] if act is None else [act()]))


class Residual(nn.Module):
    """body(x) + shortcut(x), through an activation."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, act: Activation = None) -> None:
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut or nn.Identity(), act() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.body(x) + self.shortcut(x))
        return y


class Squeeze(nn.Module):
    """x scaled by a gate for each channel, which two layers compute from the channels' means."""

    def __init__(
        self, channels: int, squeezed: int, act: Callable[[], nn.Module], gate: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            act(),
            nn.Conv2d(squeezed, channels, 1),
            gate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.gate(x)
        return y


def _head(channels: int, *hidden: nn.Module) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *hidden, nn.Linear(channels, 1000)]


# ---- ResNet


def _basic(channels: int, width: int, stride: int) -> tuple[nn.Module, int]:
    return nn.Sequential(conv(channels, width, 3, stride), conv(width, width, 3, act=None)), width


def _bottleneck(channels: int, width: int, stride: int) -> tuple[nn.Module, int]:
    out = 4 * width
    return nn.Sequential(conv(channels, width, 1), conv(width, width, 3, stride), conv(width, out, 1, act=None)), out


def _resnet(block: Callable[[int, int, int], tuple[nn.Module, int]], depths: list[int]) -> nn.Module:
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, depth in enumerate(depths):
        for i in range(depth):
            stride = 2 if stage and i == 0 else 1
            body, out = block(channels, 64 << stage, stride)
            shortcut = None if stride == 1 and channels == out else conv(channels, out, 1, stride, None)
            layers.append(Residual(body, shortcut, nn.ReLU))
            channels = out
    return nn.Sequential(*layers, *_head(channels))


# ---- MobileNet and EfficientNet


def _inverted(
    channels: int, hidden: int, out: int, kernel: int, stride: int, act: Activation, squeeze: nn.Module | None = None
) -> nn.Module:
    """Make an inverted residual: 1 x 1 to more channels, a depthwise layer, 1 x 1 to fewer."""
    body = nn.Sequential(
        *([conv(channels, hidden, 1, act=act)] if hidden != channels else []),
        conv(hidden, hidden, kernel, stride, act, groups=hidden),
        *([] if squeeze is None else [squeeze]),
        conv(hidden, out, 1, act=None),
    )
    return Residual(body) if stride == 1 and channels == out else body


def _mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [conv(3, 32, 3, 2, nn.ReLU6)]
    channels = 32
    for expand, out, depth, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(depth):
            layers.append(_inverted(channels, expand * channels, out, 3, stride if i == 0 else 1, nn.ReLU6))
            channels = out
    return nn.Sequential(*layers, conv(channels, 1280, 1, act=nn.ReLU6), *_head(1280))


def _mobilenet_v3() -> nn.Module:
    relu, swish = nn.ReLU, nn.Hardswish
    layers: list[nn.Module] = [conv(3, 16, 3, 2, swish)]
    channels = 16
    for kernel, hidden, out, squeezed, act, stride in (
        (3, 16, 16, 0, relu, 1),
        (3, 64, 24, 0, relu, 2),
        (3, 72, 24, 0, relu, 1),
        (5, 72, 40, 24, relu, 2),
        (5, 120, 40, 32, relu, 1),
        (5, 120, 40, 32, relu, 1),
        (3, 240, 80, 0, swish, 2),
        (3, 200, 80, 0, swish, 1),
        (3, 184, 80, 0, swish, 1),
        (3, 184, 80, 0, swish, 1),
        (3, 480, 112, 120, swish, 1),
        (3, 672, 112, 168, swish, 1),
        (5, 672, 160, 168, swish, 2),
        (5, 960, 160, 240, swish, 1),
        (5, 960, 160, 240, swish, 1),
    ):
        squeeze = Squeeze(hidden, squeezed, nn.ReLU, nn.Hardsigmoid) if squeezed else None
        layers.append(_inverted(channels, hidden, out, kernel, stride, act, squeeze))
        channels = out
    head = _head(1280, nn.Linear(960, 1280), nn.Hardswish())
    return nn.Sequential(*layers, conv(channels, 960, 1, act=swish), *head)


def _efficientnet() -> nn.Module:
    layers: list[nn.Module] = [conv(3, 32, 3, 2, nn.SiLU)]
    channels = 32
    for expand, kernel, stride, out, depth in (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ):
        for i in range(depth):
            hidden = expand * channels
            squeeze = Squeeze(hidden, channels // 4, nn.SiLU, nn.Sigmoid)
            layers.append(_inverted(channels, hidden, out, kernel, stride if i == 0 else 1, nn.SiLU, squeeze))
            channels = out
    return nn.Sequential(*layers, conv(channels, 1280, 1, act=nn.SiLU), *_head(1280))


# ---- YOLOv8n


class Split(nn.Module):
    """C2f: each block reads the end of what came before, and a 1 x 1 layer reads all of it."""

    def __init__(self, channels: int, out: int, depth: int, shortcut: bool) -> None:
        super().__init__()
        half = out // 2
        self.first = conv(channels, out, 1, act=nn.SiLU)
        blocks = (
            nn.Sequential(conv(half, half, 3, act=nn.SiLU), conv(half, half, 3, act=nn.SiLU)) for _ in range(depth)
        )
        self.blocks = nn.ModuleList(Residual(block) if shortcut else block for block in blocks)
        self.last = conv((2 + depth) * half, out, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


class Pyramid(nn.Module):
    """SPPF: three max pools of 5 x 5, one after another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels // 2, 1, act=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.last = conv(2 * channels, channels, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


class Yolo(nn.Module):
    """The detector: for each place of three grids, the distances of four edges and 80 scores."""

    BINS = 16  # of a distance

    def __init__(self) -> None:
        super().__init__()
        act = nn.SiLU
        self.to_8 = nn.Sequential(
            conv(3, 16, 3, 2, act), conv(16, 32, 3, 2, act), Split(32, 32, 1, True), conv(32, 64, 3, 2, act),
            Split(64, 64, 2, True),
        )  # fmt: skip
        self.to_16 = nn.Sequential(conv(64, 128, 3, 2, act), Split(128, 128, 2, True))
        self.to_32 = nn.Sequential(conv(128, 256, 3, 2, act), Split(256, 256, 1, True), Pyramid(256))
        self.up = nn.Upsample(scale_factor=2)
        self.up_16, self.up_8 = Split(384, 128, 1, False), Split(192, 64, 1, False)
        self.down_16, self.down_32 = conv(64, 64, 3, 2, act), conv(128, 128, 3, 2, act)
        self.out_16, self.out_32 = Split(192, 128, 1, False), Split(384, 256, 1, False)
        self.edges = nn.ModuleList(self._branch(channels, 64, 4 * self.BINS) for channels in (64, 128, 256))
        self.scores = nn.ModuleList(self._branch(channels, 80, 80) for channels in (64, 128, 256))

    @staticmethod
    def _branch(channels: int, width: int, out: int) -> nn.Module:
        return nn.Sequential(
            conv(channels, width, 3, act=nn.SiLU), conv(width, width, 3, act=nn.SiLU), nn.Conv2d(width, out, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        eighth = self.to_8(x)
        sixteenth = self.to_16(eighth)
        coarse = self.to_32(sixteenth)
        middle = self.up_16(torch.cat([self.up(coarse), sixteenth], 1))
        fine = self.up_8(torch.cat([self.up(middle), eighth], 1))
        middle = self.out_16(torch.cat([self.down_16(fine), middle], 1))
        coarse = self.out_32(torch.cat([self.down_32(middle), coarse], 1))
        grids = (fine, middle, coarse)
        edges = torch.cat([branch(grid).flatten(2) for branch, grid in zip(self.edges, grids, strict=True)], 2)
        scores = torch.cat([branch(grid).flatten(2) for branch, grid in zip(self.scores, grids, strict=True)], 2)
        bins = edges.reshape(len(x), 4, self.BINS, -1).softmax(2)
        distances = (bins * torch.arange(self.BINS, dtype=torch.float32).view(1, 1, -1, 1)).sum(2)
        return torch.cat([distances, scores.sigmoid()], 1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-18": (lambda: _resnet(_basic, [2, 2, 2, 2]), 224),
    "ResNet-50": (lambda: _resnet(_bottleneck, [3, 4, 6, 3]), 224),
    "MobileNetV2": (_mobilenet_v2, 224),
    "MobileNetV3": (_mobilenet_v3, 224),
    "EfficientNet-B0": (_efficientnet, 224),
    "YOLOv8n": (Yolo, 320),
}
"""Each network, and the height and width of its pictures."""


def picture(name: str) -> Tensor:
    """Return a picture for a network, float32 (1, 3, height, width): smooth shapes and some noise."""
    size = NETWORKS[name][1]
    generator = torch.Generator().manual_seed(1)
    shapes = nn.functional.interpolate(torch.randn(1, 3, 7, 7, generator=generator), (size, size), mode="bicubic")
    return shapes + 0.1 * torch.randn(1, 3, size, size, generator=generator)


def build(name: str) -> nn.Module:
    """Make a network, the same each time. Its batch norms have the means and variances of one picture."""
    torch.manual_seed(0)
    module = NETWORKS[name][0]()
    norms: list[Any] = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
    with torch.no_grad():
        module.train()(picture(name))
    return module.eval()
