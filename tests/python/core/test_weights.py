"""A QuantizedWeight shows what it holds, survives pickle and file, and trusts no file."""

import copy
import gc
import json
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import dynq

F = np.float32


def weights() -> dict[str, dynq.QuantizedWeight]:
    rng = np.random.default_rng(0)
    return {
        "float": dynq.quantize_weight(rng.standard_normal((37, 50)).astype(F)),
        "zero-points": dynq.QuantizedWeight.from_integers(
            rng.integers(0, 256, (5, 9)).astype(np.uint8), rng.uniform(0.1, 1, 5).astype(F), rng.integers(0, 256, 5)
        ),
        "no rows": dynq.quantize_weight(np.ones((0, 7), F)),
        "no columns": dynq.quantize_weight(np.ones((7, 0), F)),
    }


WEIGHTS = weights()


def assert_same(a: dynq.QuantizedWeight, b: dynq.QuantizedWeight) -> None:
    assert a.shape == b.shape and a.nbytes == b.nbytes
    assert np.array_equal(a.integers(), b.integers()) and np.array_equal(a.scale, b.scale)
    assert np.array_equal(a.dequantize(), b.dequantize())
    x = np.random.default_rng(1).standard_normal((3, a.shape[1])).astype(F)
    assert dynq.linear(x, a).tobytes() == dynq.linear(x, b).tobytes()


def test_it_shows_what_it_holds() -> None:
    w = np.random.default_rng(0).standard_normal((37, 50)).astype(F)
    qw = dynq.quantize_weight(w)
    assert qw.shape == (37, 50)
    assert qw.scale.dtype == F and qw.scale.shape == (37,) and not qw.scale.flags.writeable
    assert np.array_equal(qw.scale, np.abs(w).max(1) / F(127))
    assert qw.zero_point is None
    assert qw.nbytes == 48 * 52 + 48 * 8
    assert np.array_equal(qw.dequantize(), qw.integers() * qw.scale[:, None])
    assert np.abs(qw.dequantize() - w).max() <= qw.scale.max() / 2 * 1.0001
    assert repr(qw) == f"QuantizedWeight(shape=(37, 50), {qw.nbytes} bytes)"
    assert repr(WEIGHTS["zero-points"]).endswith("bytes, zero-points)")
    assert WEIGHTS["zero-points"].zero_point.shape == (5,)


@pytest.mark.parametrize("name", WEIGHTS)
def test_it_pickles_and_copies(name: str) -> None:
    qw = WEIGHTS[name]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert_same(pickle.loads(pickle.dumps(qw, protocol)), qw)
    assert_same(copy.deepcopy(qw), qw)
    assert_same(copy.copy(qw), qw)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_saved_weight_loads_mapped_with_the_same_bits(name: str, tmp_path: Path) -> None:
    qw, path = WEIGHTS[name], tmp_path / "w.dynq"
    qw.save(path)
    loaded = dynq.QuantizedWeight.load(path)
    assert_same(loaded, qw)
    if name in ("float", "zero-points"):
        assert str(path) in Path("/proc/self/maps").read_text()
    again = tmp_path / "again.dynq"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.dynq", "w.dynq"]


def test_the_safetensors_library_reads_the_file(tmp_path: Path) -> None:
    qw = WEIGHTS["zero-points"]
    qw.save(tmp_path / "w.dynq")
    tensors = load_file(tmp_path / "w.dynq")
    assert np.array_equal(tensors["scale"][:5], qw.scale)
    assert np.array_equal(tensors["zero_point"][:5], qw.zero_point)
    panel = tensors["data"].reshape(1, 3, 16, 4)
    assert np.array_equal(panel.transpose(0, 2, 1, 3).reshape(16, 12)[:5, :9], qw.integers())


def saved(tmp_path: Path) -> bytes:
    path = tmp_path / "good.dynq"
    WEIGHTS["zero-points"].save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("damaged")
    return folder / "damaged.dynq", saved(folder)


def test_every_truncated_file_is_refused(good: tuple[Path, bytes]) -> None:
    path, data = good
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(dynq.FileFormatError, match=r"damaged\.dynq"):
            dynq.QuantizedWeight.load(path)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_header_is_refused_or_harmless(good: tuple[Path, bytes], changes: list[tuple[int, int]]) -> None:
    path, data = good
    length = 8 + int.from_bytes(data[:8], "little")
    damaged = bytearray(data)
    for position, change in changes:
        damaged[position % length] ^= change
    path.write_bytes(damaged)
    try:
        qw = dynq.QuantizedWeight.load(path)
    except dynq.FileFormatError:
        return
    assert dynq.linear(np.ones((2, qw.shape[1]), F), qw).shape == (2, qw.shape[0])


@given(st.integers(0), st.integers(1, 255), st.integers(0, 100))
def test_a_damaged_file_is_refused_or_harmless(good: tuple[Path, bytes], place: int, change: int, cut: int) -> None:
    """One byte anywhere, in the tensors too, and up to 100 bytes gone from the end."""
    path, data = good
    damaged = bytearray(data)
    damaged[place % len(data)] ^= change
    path.write_bytes(damaged[: len(data) - cut])
    try:
        qw = dynq.QuantizedWeight.load(path)
    except dynq.FileFormatError:
        return
    assert cut == 0
    x = np.random.default_rng(0).standard_normal((2, qw.shape[1])).astype(F)
    assert dynq.linear(x, qw).shape == (2, qw.shape[0])
    assert qw.integers().shape == qw.dequantize().shape == qw.shape


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:length]), data[length:]


@pytest.mark.parametrize("name", ["scale", "zero_point"])
def test_numbers_that_no_weight_has_are_refused(good: tuple[Path, bytes], name: str) -> None:
    path, data = good
    length = 8 + int.from_bytes(data[:8], "little")
    begin = length + header_of(data)[0][name]["data_offsets"][0]
    bad = (F("nan"), F("inf"), F(0), F(-1)) if name == "scale" else (np.int32(-129), np.int32(128), np.int32(2**31 - 1))
    for value in bad:
        path.write_bytes(data[:begin] + value.tobytes() + data[begin + 4 :])
        with pytest.raises(dynq.FileFormatError, match=name):
            dynq.QuantizedWeight.load(path)


HOSTILE: dict[str, Any] = {
    "no notes": lambda h: h.pop("__metadata__"),
    "notes of numbers": lambda h: h.update(__metadata__={"dynq": 1}),
    "no shape": lambda h: h["__metadata__"].pop("shape"),
    "one size": lambda h: h["__metadata__"].update(shape="5"),
    "negative size": lambda h: h["__metadata__"].update(shape="-5 9"),
    "size over 64 bits": lambda h: h["__metadata__"].update(shape=f"5 {2**80}"),
    "size that wraps around": lambda h: h["__metadata__"].update(shape=f"5 {2**64 - 3}"),
    "a larger shape than the data": lambda h: h["__metadata__"].update(shape="5 13"),
    "no tensor": lambda h: h.pop("column_sum"),
    "another dtype of the same size": lambda h: h["scale"].update(dtype="I32"),
    "an unknown dtype": lambda h: h["scale"].update(dtype="F13"),
    "a dtype that is a list": lambda h: h["scale"].update(dtype=[]),
    "two dimensions": lambda h: h["scale"].update(shape=[4, 4]),
    "a size that is a bool": lambda h: h.update(more={"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}),
    "a negative offset": lambda h: h["scale"].update(data_offsets=[-64, 0]),
    "offsets the wrong way round": lambda h: h["scale"]["data_offsets"].reverse(),
    "an offset beyond the file": lambda h: h["scale"].update(data_offsets=[2**70, 2**70 + 64]),
    "an entry that is no object": lambda h: h.update(scale=3),
    "65 dimensions": lambda h: h["scale"].update(shape=[16] + 64 * [1]),
    "a size over 64 bits beside a 0": lambda h: h.update(
        more={"dtype": "U8", "shape": [0, 2**70], "data_offsets": [0, 0]}
    ),
    "two tensors in one place": lambda h: h.update(more=h["scale"]),
    "a part that no tensor has": lambda h: h.update({"data": {**h["data"], "shape": [128], "data_offsets": [0, 128]}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_lies_is_refused(good: tuple[Path, bytes], name: str) -> None:
    path, data = good
    header, tensors = header_of(data)
    HOSTILE[name](header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    with pytest.raises(dynq.FileFormatError, match=r"damaged\.dynq"):
        dynq.QuantizedWeight.load(path)


def test_bytes_after_the_last_tensor_are_refused(good: tuple[Path, bytes]) -> None:
    path, data = good
    path.write_bytes(data + b"\0")
    with pytest.raises(dynq.FileFormatError, match="longer than its header says"):
        dynq.QuantizedWeight.load(path)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"a":' * 100_000, b"[]", b"null", b"\xff\xfe", b'{"a":' + b"9" * 5000]
)
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(dynq.FileFormatError):
        dynq.QuantizedWeight.load(tmp_path / "x")


@pytest.mark.parametrize(
    "before, after",
    [
        (b"weight 1", b"weight 2"),
        (b'"I8"', b'"U8"'),
        (b'"I32"', b'"F32"'),
        (b'"shape":"5 9"', b'"shape":"6 9"'),
        (b'"shape":"5 9"', b'"shape":"5 8"'),
        (b'"shape":"5 9"', b'"shape":"-59"'),
        (b'"data":{', b'"dato":{'),
        (b'"__metadata__"', b'"__metaduta__"'),
    ],
)
def test_a_file_that_says_something_else_is_refused(good: tuple[Path, bytes], before: bytes, after: bytes) -> None:
    path, data = good
    assert before in data
    path.write_bytes(data.replace(before, after))
    with pytest.raises(dynq.FileFormatError):
        dynq.QuantizedWeight.load(path)


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    for head in (b"", b"\x00" * 7, b"\xff" * 8, (2**63).to_bytes(8, "little") + b"{}", b"\x02" + b"\x00" * 7 + b"{}"):
        (tmp_path / "x").write_bytes(head)
        with pytest.raises(dynq.FileFormatError):
            dynq.QuantizedWeight.load(tmp_path / "x")


def test_a_missing_file_is_what_python_says(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        dynq.QuantizedWeight.load(tmp_path / "nothing")


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WEIGHTS["float"].save(tmp_path / "no folder" / "w.dynq")
    assert not list(tmp_path.iterdir())


def test_views_keep_the_weight_alive() -> None:
    w = np.random.default_rng(0).standard_normal((300, 400)).astype(F)
    qw = dynq.quantize_weight(w)
    alive, scale = weakref.ref(qw), qw.scale
    del qw
    gc.collect()
    assert alive() is not None  # freed memory often keeps its values: those alone would not tell
    assert np.array_equal(scale, np.abs(w).max(1) / F(127))
    del scale
    gc.collect()
    assert alive() is None


def test_views_of_a_mapped_file_outlive_the_weight_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.dynq"
    WEIGHTS["float"].save(path)
    loaded = dynq.QuantizedWeight.load(path)
    scale, copied = loaded.scale, copy.copy(loaded)
    path.unlink()  # the pages stay while something looks into them
    del loaded
    gc.collect()
    assert np.array_equal(scale, WEIGHTS["float"].scale)
    assert_same(copied, WEIGHTS["float"])


def test_what_it_shows_cannot_be_changed() -> None:
    for name in ("float", "zero-points"):
        qw = pickle.loads(pickle.dumps(WEIGHTS[name]))
        for view in (qw.scale, qw.zero_point):
            if view is not None:
                with pytest.raises(ValueError, match="read-only"):
                    view[0] = 1
                with pytest.raises(ValueError, match="WRITEABLE"):
                    view.flags.writeable = True
        qw.integers()[...] = 0  # a copy
        assert_same(qw, WEIGHTS[name])


def test_its_memory_is_given_back_with_the_last_reference() -> None:
    gc.disable()
    try:
        for calls in range(3):
            qw = dynq.quantize_weight(np.ones((3, 4), F))
            for _ in range(calls):
                dynq.linear(np.ones((2, 4), F), qw, np.ones(3, F))
            gone = weakref.ref(qw)
            del qw
            assert gone() is None
    finally:
        gc.enable()


def test_one_scale_and_zero_point_serve_all_channels() -> None:
    w = np.arange(-12, 12, dtype=np.int8).reshape(4, 6)
    one = dynq.QuantizedWeight.from_integers(w, F(0.5), 3)
    each = dynq.QuantizedWeight.from_integers(w, np.full(4, 0.5, F), np.full(4, 3))
    assert_same(one, each)
    assert_same(dynq.QuantizedWeight.from_integers(w.T.copy().T, F(0.5), 3), each)
    unsigned = (w.astype(int) + 128).astype(np.uint8)
    assert_same(dynq.QuantizedWeight.from_integers(unsigned, F(0.5), 131), each)
    assert dynq.QuantizedWeight.from_integers(unsigned, F(0.5)).zero_point is None


MEMORY = """
import sys, numpy as np, dynq

def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024

dynq.set_num_threads(2)
dynq.linear(np.ones((300, 300), "f"), dynq.quantize_weight(np.ones((300, 300), "f")))
n, k = 4096, 4096
w = np.ones((n, k), "f") if sys.argv[1] == "rows" else np.ones((k, n), "f").T
before = peak() - w.nbytes
qw = dynq.quantize_weight(w)
print((peak() - before) / (w.nbytes + qw.nbytes))
"""


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_packing_takes_little_more_memory_than_input_and_output(layout: str) -> None:
    ratio = float(subprocess.check_output([sys.executable, "-c", MEMORY, layout], text=True))
    assert 0.9 < ratio < 1.3
