"""Weights of convolutions take no padding in a file, and the report counts the bytes that the file has."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynq
from dynq import Graph

F = np.float32
LAYERS = {  # outputs, channels of a group, kernel; groups
    "depthwise": ((512, 1, 5, 5), 512),
    "depthwise of rows": ((80, 1, 9), 80),
    "one output": ((1, 64, 3, 3), 1),
    "one output of rows": ((1, 40, 5), 1),
    "groups": ((40, 10, 3, 3), 4),
    "large groups": ((72, 8, 3), 2),
    "int8": ((24, 18, 3, 3), 1),
    "int8 of rows": ((37, 40, 4), 1),
}


def normal(*shape: int) -> Any:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape, F)


def bytes_of_tensors(path: Path) -> dict[str, int]:
    data = path.read_bytes()
    header: dict[str, Any] = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return {
        name: entry["data_offsets"][1] - entry["data_offsets"][0]
        for name, entry in header.items()
        if not name.startswith(("pad.", "__")) and name != "plan"
    }


@pytest.mark.parametrize("quantize", [True, False])
@pytest.mark.parametrize("layer", list(LAYERS))
def test_the_report_counts_the_bytes_of_the_file(layer: str, quantize: bool, tmp_path: Path) -> None:
    shape, groups = LAYERS[layer]
    g = Graph()
    x = g.input("x", (1, shape[1] * groups, *[9] * (len(shape) - 2)))
    model = g.build(g.conv(x, normal(*shape), group=groups, name="layer"), quantize=quantize, default="int8")
    model.save(tmp_path / "m.dynq")
    stored = sum(bytes_of_tensors(tmp_path / "m.dynq").values())
    (row,) = (row for row in model.report().rows if row.node == "layer")
    assert row.bytes_after == stored
    assert row.bytes_before == 4 * np.prod(shape)
    if not quantize or not row.quantized:
        assert stored == row.bytes_before
    elif groups > 1:
        assert stored == np.prod(shape) + 4 * shape[0]


def test_a_large_depthwise_weight_is_int8_and_close() -> None:
    g = Graph()
    x = g.input("x", (1, 512, 9, 9))
    w = normal(512, 1, 5, 5)
    y = g.conv(x, w, normal(512), pads=2, group=512, activation="relu", name="layer")
    exact, model = g.build(y, quantize=False), g.build(y, default="int8")
    row = model.report().rows[0]
    assert row.became == "int8 conv, float activations" and "512 groups" in row.why
    data = normal(1, 512, 9, 9)
    scale = np.abs(w).max((1, 2, 3)) / F(127)
    near = np.clip(np.rint(w / scale[:, None, None, None]), -127, 127).astype(F) * scale[:, None, None, None]
    g = Graph()
    x = g.input("x", (1, 512, 9, 9))
    twin = g.build(g.conv(x, near, normal(512), pads=2, group=512, activation="relu"), quantize=False)
    np.testing.assert_array_equal(model(data), twin(data))
    assert np.abs(model(data) - exact(data)).max() < 0.02 * np.abs(exact(data)).max()


def test_convolutions_with_the_same_windows_quantize_their_input_once(tmp_path: Path) -> None:
    weights = [normal(n, 40, 3, 3) for n in (24, 40, 20)]
    g = Graph()
    x = g.input("x", (2, 40, 9, 8))
    heads = [g.conv(x, w, normal(len(w)), pads=1, name=f"head{i}") for i, w in enumerate(weights)]
    other = g.conv(x, normal(32, 40, 1, 1), name="other")
    model = g.build(*heads, other, default="int8")
    ops = [op for _, op in model.nodes]
    assert ops.count("dynq.Conv") == 2 and ops.count("Split") == 1
    (row,) = (row for row in model.report().rows if row.merged)
    assert row.merged == ("head0", "head1", "head2")
    model.save(tmp_path / "m.dynq")
    sizes = bytes_of_tensors(tmp_path / "m.dynq")
    assert row.bytes_after == 96 * 360 + 96 * 8 and row.bytes_after + 32 * 40 + 32 * 8 <= sum(sizes.values())
    data = normal(2, 40, 9, 8)
    for got, w in zip(model.run({"x": data}).values(), weights, strict=False):
        g = Graph()
        alone = g.build(g.conv(g.input("x", (2, 40, 9, 8)), w, normal(len(w)), pads=1), default="int8")
        np.testing.assert_array_equal(got, alone(data))


def test_a_weight_with_a_nan_stays_float() -> None:
    w = normal(512, 1, 3, 3)
    w[3] = np.nan
    g = Graph()
    model = g.build(g.conv(g.input("x", (1, 512, 4, 4)), w, group=512), default="int8")
    assert not model.report().rows[0].quantized
    y = model(normal(1, 512, 4, 4))
    assert np.isnan(y[0, 3]).all() and np.isnan(y).sum() == y[0, 3].size


def test_files_of_earlier_versions_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They have the last panel of a group filled up with zeros."""
    from dynq.passes.rewrite import panels
    from dynq.quantization import lower

    g = Graph()
    y = g.conv(g.input("x", (1, 12, 9)), normal(60, 4, 3), normal(60), pads=1, group=3, name="layer")
    new = g.build(y, quantize=False)
    monkeypatch.setattr(lower, "conv_panels", panels)
    g.build(y, quantize=False).save(tmp_path / "old.dynq")
    old = dynq.load(tmp_path / "old.dynq")
    assert bytes_of_tensors(tmp_path / "old.dynq") != {}
    data = normal(1, 12, 9)
    np.testing.assert_array_equal(old(data), new(data))
    assert old.nbytes > new.nbytes
