"""The file of a model: what docs/model-format.md says, byte by byte, by a reader of the test's own."""

import gc
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import dynq
from dynq.graph import Graph
from dynq.plan.write import write_image
from dynq.weights import packed_arrays

RNG = np.random.default_rng(5)
W = RNG.standard_normal((20, 6), np.float32)
TABLE = RNG.standard_normal((7, 6), np.float32)


@pytest.fixture
def model() -> dynq.Model:
    g = Graph("net")
    ids = g.input("ids", ("batch", 2), "int64")
    mask = g.input("mask", ("batch", "time", 1))
    y = g.linear(g.embedding(TABLE, ids, name="table"), W, np.ones(20, np.float32), activation="gelu", name="fc")
    return g.build({"y": y, "same": g.reshape(mask, (0, -1))})


class Plan:
    """docs/model-format.md read anew."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        assert (8 + length) % 64 == 0
        self.header = json.loads(raw[8 : 8 + length])
        self.data = raw[8 + length :]
        self.at = 0
        assert self.take("8s") == b"dynqplan"
        self.version, checksum, self.size, data_size = self.take("I"), self.take("I"), self.take("Q"), self.take("Q")
        assert data_size == len(self.data)
        assert checksum == zlib.crc32(self.data[16 : self.size])
        self.symbols = self.many(self.text)
        self.tensors = self.many(self.tensor)
        self.inputs = self.many(lambda: self.take("I"))
        self.nodes = self.many(self.node)
        self.outputs = self.many(lambda: (self.text(), self.take("I")))
        assert self.at == self.size

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self) -> str:
        return str(self.take(f"{self.take('I')}s"), "utf-8")

    def many(self, one: Any) -> list[Any]:
        return [one() for _ in range(self.take("I"))]

    def tensor(self) -> dict[str, Any]:
        name, kind = self.text(), self.take("B")
        if kind == 0:
            return {"name": name, "kind": kind}
        if kind == 3:
            shape = (self.take("Q"), self.take("Q"))
            return {"name": name, "kind": kind, "shape": shape, "offsets": [self.take("Q") for _ in range(4)]}
        dtype, rank = self.take("B"), self.take("B")
        result = {"name": name, "kind": kind, "dtype": dtype, "dims": [self.take("q") for _ in range(rank)]}
        return result if kind == 1 else {**result, "offset": self.take("Q")}

    def node(self) -> dict[str, Any]:
        name, op = self.text(), self.text()
        inputs, outputs = (self.many(lambda: self.take("I")) for _ in range(2))
        attributes = dict(self.many(lambda: (self.text(), self.attribute())))
        return {"name": name, "op": op, "inputs": inputs, "outputs": outputs, "attributes": attributes}

    def attribute(self) -> Any:
        kind = self.take("B")
        if kind == 3:
            return self.text()
        code = "q" if kind in (1, 4) else "f"
        return self.take(code) if kind < 3 else self.many(lambda: self.take(code))


def test_the_plan_says_what_the_graph_is(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.dynq")
    plan = Plan(tmp_path / "m.dynq")
    assert plan.version == 1 and plan.symbols == ["batch", "time"]
    names = [tensor["name"] for tensor in plan.tensors]
    assert len(set(names)) == len(names)
    assert [names[i] for i in plan.inputs] == ["ids", "mask"]
    assert plan.tensors[0] == {"name": "ids", "kind": 1, "dtype": 1, "dims": [-1, 2]}
    assert plan.tensors[1]["dims"] == [-1, -2, 1]
    assert [(node["name"], node["op"]) for node in plan.nodes] == [
        ("table", "dynq.Embedding"), ("fc", "dynq.Linear"), ("reshape", "Reshape")
    ]  # fmt: skip
    assert plan.nodes[1]["attributes"] == {"activation": "gelu", "scheme": "asymmetric", "granularity": "row"}
    assert [name for name, _ in plan.outputs] == ["y", "same"]


def test_the_plan_says_where_the_constants_are(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.dynq")
    plan = Plan(tmp_path / "m.dynq")
    (weight,) = (tensor for tensor in plan.tensors if tensor["kind"] == 3)
    packed = dynq.quantize_weight(W)
    assert weight["shape"] == (20, 6) and weight["offsets"][3] == 2**64 - 1
    for offset, array in zip(weight["offsets"], packed_arrays(packed)[:3], strict=False):
        assert offset % 64 == 0 and array is not None
        assert plan.data[offset : offset + array.nbytes] == array.tobytes()
    bias = next(tensor for tensor in plan.tensors if tensor["name"] == "fc.bias")
    assert plan.data[bias["offset"] : bias["offset"] + 80] == np.ones(20, np.float32).tobytes()


def test_safetensors_reads_the_file(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.dynq")
    tensors = load_file(tmp_path / "m.dynq")
    plan = Plan(tmp_path / "m.dynq")
    for name, entry in plan.header.items():
        if name != "__metadata__" and not name.startswith("pad."):
            assert entry["data_offsets"][0] % 64 == 0, name
            assert tensors[name].nbytes == entry["data_offsets"][1] - entry["data_offsets"][0]
    np.testing.assert_array_equal(tensors["fc.weight.scale"][:20], dynq.quantize_weight(W).scale)


def test_the_note_has_the_checksum_of_what_is_behind_the_plan(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.dynq")
    plan = Plan(tmp_path / "m.dynq")
    notes = plan.header["__metadata__"]
    assert notes["dynq"] == "model 1"
    assert notes["crc32"] == f"{zlib.crc32(plan.data[plan.size :]):08x}"


def test_rows_of_a_table_are_symmetric_int8(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.dynq")
    tensors = load_file(tmp_path / "m.dynq")
    rows, scale = tensors["table.weight"], tensors["table.weight.scale"]
    np.testing.assert_array_equal(scale, np.abs(TABLE).max(axis=1) / np.float32(127))
    np.testing.assert_array_equal(rows, np.rint(TABLE / scale[:, None]).astype(np.int8))


@pytest.mark.parametrize("damage", ["[3]", "[[1,2,3,4,5]]", "[[[", '["ab"]', '[["a","b",[{}]]]', '[["a","b"]]'])
@pytest.mark.parametrize("note", ["report", "outputs"])
def test_damaged_notes_are_an_error_when_they_are_read(note: str, damage: str) -> None:
    g = Graph()
    g.output(g.relu(g.input("x", (2,))))
    damaged = dynq.Model._from_image(write_image(g, {note: damage}))
    with pytest.raises(dynq.FileFormatError, match=f"damaged header: note '{note}'"):
        _ = damaged.report() if note == "report" else damaged.outputs


def test_the_graph_comes_back_from_the_file(model: dynq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.dynq")
    loaded = dynq.load(tmp_path / "m.dynq").graph()
    assert str(loaded).replace("graph graph", "") == str(model.graph()).replace("graph graph", "")
    weight = loaded.nodes[1].inputs[1]
    assert weight is not None and isinstance(weight.constant, dynq.QuantizedWeight)
    np.testing.assert_array_equal(weight.constant.integers(), dynq.quantize_weight(W).integers())


def test_constants_that_share_a_name_with_the_plan_are_kept() -> None:
    g = Graph()
    x = g.input("x", (3,))
    plan = g.constant(np.arange(3, dtype=np.float32), "plan")
    pad = g.constant(np.arange(3, dtype=np.float32) + 5, "pad.plan")
    model = g.build({"a": plan, "b": pad, "c": x})
    a, b, c = model(np.zeros(3, np.float32))
    assert a.tolist() == [0, 1, 2] and b.tolist() == [5, 6, 7] and c.tolist() == [0, 0, 0]


def test_every_dtype_and_a_size_of_zero_are_kept() -> None:
    g = Graph()
    constants = {
        name: g.constant(np.array([[1, 0, 1]], name), f"c_{name}")
        for name in ("float32", "int64", "int32", "bool", "uint8", "int8")
    }
    constants["empty"] = g.constant(np.empty((0, 3), np.float32), "empty")
    constants["scalar"] = g.constant(np.int64(7), "scalar")
    result = g.build(constants).run({})
    for name, value in constants.items():
        assert result[name].dtype == value.dtype and result[name].shape == value.shape
        np.testing.assert_array_equal(result[name], value.array)


def test_a_loaded_file_is_mapped_once_and_as_long_as_something_reads_it(model: dynq.Model, tmp_path: Path) -> None:
    path = tmp_path / "once.dynq"
    model.save(path)
    constants = [value.constant for value in dynq.load(path).graph().constants()]
    gc.collect()
    assert Path("/proc/self/maps").read_text().count(str(path)) == 1
    del constants
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()
