"""A file is mapped once in a process; a model that was opened from one pickles as its name, others as their bytes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import dynq
from dynq.core.mapped import open_mapped

X = np.random.default_rng(3).standard_normal((2, 16), np.float32)


def save(path: Path, seed: int) -> dynq.Model:
    g = dynq.Graph()
    weight = np.random.default_rng(seed).standard_normal((64, 16), np.float32)
    model = g.build(g.linear(g.input("x", ("batch", 16)), weight))
    model.save(path)
    return model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "m.dynq", 0)
    return tmp_path / "m.dynq"


def test_all_who_open_a_file_share_one_mapping(path: Path) -> None:
    a, b = dynq.load(path, max_bytes=10**6), dynq.load(path)
    os.link(path, path.with_name("other.dynq"))
    assert a._image.ctypes.data == b._image.ctypes.data
    np.testing.assert_array_equal(a(X), b(X))
    assert (a.max_bytes, b.max_bytes) == (10**6, None)
    address = a._image.ctypes.data
    assert dynq.load(path.with_name("other.dynq"))._image.ctypes.data == address
    del a
    assert dynq.load(path)._image.ctypes.data == address
    assert dynq.load(path, mapped=False)._image.ctypes.data != address


def test_a_mapping_goes_with_the_last_who_has_it(path: Path) -> None:
    model = dynq.load(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    del model
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_file_in_the_place_of_another_is_another(path: Path) -> None:
    old = dynq.load(path)
    before = old(X)
    new = save(path, 1)  # renamed over it
    opened = dynq.load(path)
    np.testing.assert_array_equal(opened(X), new(X))
    np.testing.assert_array_equal(old(X), before)
    assert not np.array_equal(before, new(X))


def test_a_change_in_place_is_seen(path: Path, tmp_path: Path) -> None:
    """A file of the same name, inode and size, whose times tell."""
    first = open_mapped(os.fspath(path))
    other = save(tmp_path / "n.dynq", 2)
    os.utime(path, ns=(1, 1))
    assert open_mapped(os.fspath(path)) is not first and not first.is_at(os.fspath(path))
    del first
    path.write_bytes(other.to_bytes())
    np.testing.assert_array_equal(dynq.load(path)(X), other(X))


def test_a_model_of_a_file_pickles_as_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    model = dynq.load(path.name, max_bytes=10**6)
    data = pickle.dumps(model)
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert len(data) < 1000 < len(pickle.dumps(dynq.load(path, mapped=False)))
    assert again.max_bytes == 10**6 and again._image.ctypes.data == model._image.ctypes.data
    np.testing.assert_array_equal(again(X), model(X))


def test_a_pickle_whose_file_is_gone_or_another_is_an_error(path: Path) -> None:
    data = pickle.dumps(dynq.load(path))
    save(path, 1)
    with pytest.raises(dynq.FileFormatError, match=r"is the file .*m\.dynq as it was, .* the one here has .* checksum"):
        pickle.loads(data)
    path.unlink()
    with pytest.raises(dynq.FileAccessError, match=r"is the file .*m\.dynq, which is not here; .*model\.to_bytes"):
        pickle.loads(data)


def test_a_model_whose_file_was_replaced_pickles_as_its_bytes(path: Path) -> None:
    model = dynq.load(path)
    expected = model(X)
    for change in (lambda: save(path, 1), path.unlink):
        change()
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(X), expected)


def test_a_file_without_checksums_of_tensors_is_told_by_all_its_bytes(path: Path) -> None:
    """As older versions wrote them: the header has nothing of the weights."""
    path.write_bytes(path.read_bytes().replace(b"crc32_tensors", b"crc32_tensorz"))
    data = pickle.dumps(dynq.load(path))
    image = bytearray(path.read_bytes())
    image[-70] ^= 1
    path.write_bytes(image)
    with pytest.raises(dynq.FileFormatError, match="as it was"):
        pickle.loads(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_load_takes_the_bytes_of_a_file(path: Path, kind: type) -> None:
    model = dynq.load(path)
    data = model.to_bytes()
    assert data == path.read_bytes()
    again = dynq.load(kind(data), max_bytes=10**6)
    np.testing.assert_array_equal(again(X), model(X))
    assert again.max_bytes == 10**6
    with pytest.raises(dynq.FileFormatError):
        dynq.load(kind(data[:100]))


def test_bytes_that_change_afterwards_do_not_matter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    model = dynq.load(data)
    expected = model(X)
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(model(X), expected)
