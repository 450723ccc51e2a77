"""dynq.from_torch: names, open sizes, options, files, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import dynq  # noqa: E402
from dynq.cli import cli  # noqa: E402
from dynq.importers.torch import to_graph  # noqa: E402
from tests.python.references.torch_models import cosine, expected, floats, results  # noqa: E402


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 32)
        self.encoder = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Any, scale: Any = None) -> dict[str, Any]:
        x = self.embed(ids)
        x = self.norm(x + self.encoder(x))
        return {"hidden": x if scale is None else x * scale, "logits": self.head(x)}


IDS = torch.arange(12).reshape(2, 6)


def test_nodes_have_the_names_of_modules_and_outputs_those_of_forward(tmp_path: Path) -> None:
    module = Classifier().eval()
    model = dynq.from_torch(module, (IDS,), dynamic_shapes={0: "batch", 1: "time"})
    assert [(v.name, v.dtype, v.shape) for v in model.inputs] == [("ids", "int64", ("batch", "time"))]
    assert [(v.name, v.shape) for v in model.outputs] == [
        ("hidden", ("batch", "time", 32)),
        ("logits", ("batch", "time", 50)),
    ]
    became = {row.node: row.became for row in model.report().rows}
    assert became == {
        "embed": "int8 embedding",
        "encoder.0": "int8 linear",
        "encoder.2": "int8 linear",
        "norm": "LayerNormalization",
        "head": "int8 linear",
    }
    model.save(tmp_path / "model.dynq")
    loaded = dynq.load(tmp_path / "model.dynq")
    for a, b in zip(results(model, IDS[:1, :3]), results(loaded, IDS[:1, :3]), strict=True):
        np.testing.assert_array_equal(a, b)
    for result, wanted in zip(results(loaded, IDS[:1, :3]), expected(module, IDS[:1, :3]), strict=True):
        assert cosine(result, wanted) > 0.999


def test_names_that_the_caller_gives() -> None:
    model = dynq.from_torch(Classifier().eval(), (IDS,), input_names=["tokens"], output_names=["h", "y"])
    assert [v.name for v in model.inputs] == ["tokens"]
    assert [v.name for v in model.outputs] == ["h", "y"]
    for names in ({"input_names": ["a", "b"]}, {"output_names": ["a"]}):
        with pytest.raises(ValueError, match=next(iter(names))):
            dynq.from_torch(Classifier().eval(), (IDS,), **names)


def test_keep_float_takes_modules_and_what_is_in_them() -> None:
    model = dynq.from_torch(Classifier().eval(), (IDS,), keep_float=["encoder"])
    kept = {row.node for row in model.report().kept_float}
    assert kept == {"encoder.0", "encoder.2"}
    with pytest.raises(ValueError, match="decoder"):
        dynq.from_torch(Classifier().eval(), (IDS,), keep_float=["decoder"])


def test_options_are_those_of_build() -> None:
    model = dynq.from_torch(Classifier().eval(), (IDS,), embedding="float", scheme="symmetric", granularity="tensor")
    assert {row.node: row.became for row in model.report().rows}["embed"] == "float embedding"
    with pytest.raises(TypeError, match="speed"):
        dynq.from_torch(Classifier().eval(), (IDS,), speed=1)


def test_tied_weights_stay_one() -> None:
    graph = to_graph(Classifier().eval(), (IDS,))
    assert [v.name for v in graph.constants()].count("head.weight") == 1
    assert sum(v.shape == (50, 32) for v in graph.constants()) == 1
    module = Classifier().eval()
    assert np.shares_memory(
        next(v.array for v in to_graph(module, (IDS,)).constants() if v.shape == (50, 32)), module.embed.weight.detach()
    )


def test_the_module_stays_as_it_is() -> None:
    module = nn.Sequential(nn.LSTM(8, 8), nn.Identity()).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    wanted = module[0](floats(3, 2, 8))[0]
    dynq.from_torch(module[0], (floats(3, 2, 8),))
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(module[0](floats(3, 2, 8))[0], wanted)
    assert not module.training


class Two(nn.Module):
    def forward(self, x: Any, y: Any, flag: bool = True) -> Any:
        return torch.cat([x, y], 1) * (2 if flag else 3)


@pytest.mark.parametrize(
    "shapes",
    [
        {"x": {0: "batch", 1: "s"}, "y": {0: "batch", 1: "t"}},
        {"x": ("batch", "s", None), "y": ["batch", "t", None]},
        ({0: "batch", 1: "s"}, {0: "batch", 1: "t"}),
        {"x": {0: Dim("batch"), 1: Dim("s")}, "y": {0: Dim("batch"), 1: Dim("t")}},
    ],
    ids=["names", "tuples", "in order", "Dims"],
)
def test_names_of_open_sizes(shapes: Any) -> None:
    model = dynq.from_torch(Two().eval(), (floats(1, 3, 4), floats(1, 1, 4)), dynamic_shapes=shapes)
    assert [v.shape for v in model.inputs] == [("batch", "s", 4), ("batch", "t", 4)]
    for batch, s, t in ((1, 1, 1), (3, 5, 2)):
        x, y = floats(batch, s, 4), floats(batch, t, 4)
        np.testing.assert_array_equal(results(model, x, y)[0], expected(Two(), x, y)[0])


def test_all_sizes_that_the_module_allows() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.fc(x)

    model = dynq.from_torch(Net().eval(), (floats(3, 5, 4),), dynamic_shapes="auto")
    assert model.inputs[0].shape == ("x_dim_0", "x_dim_1", 4)
    assert results(model, floats(2, 7, 4))[0].shape == (2, 7, 4)


def test_sizes_that_are_computed() -> None:
    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            n, t = x.shape[0], x.shape[1]
            half = x[:, : t // 2] + x.new_zeros(n, t // 2, 1)
            ends = x[:, t - 2 :].reshape(n * 2, -1) / (n + t)
            return half, ends, torch.arange(t * 2) + max(n, t), x.reshape(n, -1, 2), x.mean(1) / t**0.5

    inputs = (floats(3, 6, 4),)
    model = dynq.from_torch(Net().eval(), inputs, dynamic_shapes={0: "n", 1: "t"}, quantize=False)
    for given in (floats(3, 6, 4), floats(2, 9, 4), floats(4, 2, 4)):
        for result, wanted in zip(results(model, given), expected(Net(), given), strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_an_exported_program_is_taken_as_it_is(tmp_path: Path) -> None:
    module = Classifier().eval()
    program = torch.export.export(module, (IDS,), dynamic_shapes={"ids": {0: Dim("n")}})
    torch.export.save(program, tmp_path / "model.pt2")
    model = dynq.from_torch(torch.export.load(tmp_path / "model.pt2"))
    assert model.inputs[0].shape == ("ids_dim_0", 6)
    for result, rough in zip(expected(module, IDS[:1]), results(model, IDS[:1]), strict=True):
        assert cosine(result, rough) > 0.999
    with pytest.raises(ValueError, match="exported program"):
        dynq.from_torch(program, (IDS,))


def test_all_that_is_missing_is_told_at_once() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4))
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.count += 1
            y = torch.linalg.inv(self.inner(x))
            return (
                torch.special.i0(y),
                x.softmax(0),
                torch.fft.rfft(x).sqrt().abs(),
            )

    with pytest.raises(dynq.UnsupportedModelError) as caught:
        dynq.from_torch(Net().eval(), (floats(4, 4),))
    assert {what: nodes for what, nodes in caught.value.problems.items() if "linalg" in what} == {
        "op aten.linalg_inv_ex": ["linalg_inv_ex"]
    }
    text = str(caught.value)
    assert text.startswith("Net holds what dynq does not support:")
    for what in ("op aten.i0", "op aten.sqrt of complex numbers", "forward changes a buffer: 'count'"):
        assert what in text


def refuse(error: type[Exception], match: str, module: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(error, match=match):
        dynq.from_torch(module, *args, **options)


def test_wrong_arguments_are_told() -> None:
    linear, x = nn.Linear(4, 4).eval(), floats(2, 4)
    refuse(TypeError, "module is of type function", lambda x: x, (x,))
    refuse(ValueError, "training mode .*module.eval", nn.Sequential(nn.Linear(4, 4)), (x,))
    refuse(
        ValueError,
        "training mode .2.",
        nn.Sequential(nn.Dropout().train(), linear).train(False).append(nn.Dropout()),
        (x,),
    )
    refuse(ValueError, "example_inputs is missing", linear)
    refuse(ValueError, "example_inputs has no tensor", linear, ())
    refuse(TypeError, "input 0 .* ndarray", linear, (x.numpy(), x))
    refuse(TypeError, "example_inputs is of type set", linear, {x})
    refuse(TypeError, "kwargs", linear, kwargs=[x])
    refuse(ValueError, r"forward\(input: .*missing", linear, kwargs={"x": x})
    refuse(ValueError, "parameter 'weight' is on meta", nn.Linear(4, 4, device="meta").eval(), (x,))
    refuse(ValueError, "is on meta", linear, (x.to("meta"),))
    for shapes, match in (
        ("seq", "dynamic_shapes is 'seq'"),
        ({"y": {0: "n"}}, "dynamic_shapes has 'y'"),
        ({"input": {5: "n"}}, "axis 5"),
        ({"input": "n"}, "dynamic_shapes.'input'. is 'n'"),
        ([None, None], "2 entries"),
    ):
        refuse(ValueError, match, linear, (x,), dynamic_shapes=shapes)
    refuse(dynq.UnsupportedModelError, "specialized", linear, (x,), dynamic_shapes={1: "k"})
    refuse(dynq.UnsupportedModelError, "int16", Two().eval(), (x.short(), x.short()))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(dynq.MissingPackageError, match=r"pip install 'dynq\[torch\]'"):
        dynq.from_torch(None)


def test_other_kinds_of_floats_become_float32() -> None:
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        module = nn.Linear(8, 4).to(dtype).eval()
        model = dynq.from_torch(module, (floats(2, 8).to(dtype),), quantize=False)
        assert model.inputs[0].dtype == model.outputs[0].dtype == "float32"
        x = floats(2, 8).to(dtype)
        np.testing.assert_allclose(results(model, x.float())[0], expected(module.float(), x.float())[0], rtol=1e-5)
    module = nn.Linear(8, 4).double().eval()
    module.weight.data[0, 0] = 1e300
    with pytest.raises(dynq.InvalidModelError, match="weight has float64 values that are beyond float32"):
        dynq.from_torch(module, (floats(2, 8).double(),))


def test_the_examples_of_whole_models_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs/pytorch.md").read_text(encoding="utf-8")
    section = page.partition("## Whole models\n")[2].partition("\n## ")[0]
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.+?)```", section, re.DOTALL):
        exec(compile(code, "docs/pytorch.md", "exec"), names)
    assert names["tags"].shape == (1, 5)
    assert names["kept"] == ["lstm.l0.projection"]
    assert [op for _, op in names["same"].nodes] == ["dynq.Linear"]


def test_the_command_takes_programs(tmp_path: Path) -> None:
    program = torch.export.export(nn.Sequential(nn.Linear(64, 64), nn.GELU()).eval(), (floats(2, 64),))
    torch.export.save(program, tmp_path / "layer.pt2")
    run = CliRunner()
    path = tmp_path / "layer.dynq"
    assert run.invoke(cli, ["quantize", str(tmp_path / "layer.pt2"), "-o", str(path)]).exit_code == 0
    np.testing.assert_array_equal(
        results(dynq.load(path), floats(2, 64)), results(dynq.from_torch(program), floats(2, 64))
    )
    (tmp_path / "damaged.pt2").write_bytes((tmp_path / "layer.pt2").read_bytes()[:1000])
    result = run.invoke(cli, ["quantize", str(tmp_path / "damaged.pt2"), "-o", str(path)])
    assert isinstance(result.exception, dynq.InvalidModelError)
    with pytest.raises(dynq.FileAccessError, match="is no file"):
        dynq.from_torch(tmp_path / "none.pt2")


def test_a_pytorch_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.export, "default_decompositions")  # as in 2.5
    with pytest.raises(dynq.MissingPackageError, match=r"from_torch needs 2\.6"):
        dynq.from_torch(nn.Linear(8, 4).eval(), (floats(2, 8),))
