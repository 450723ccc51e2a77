"""What the documents show is what happens."""

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dynq
import dynq.importers.onnx.ops  # registers the converters
from dynq.importers.onnx.convert import CONVERTERS
from dynq.ir import ops
from tests.python.references.onnx_models import small_bert

ROOT = Path(__file__).parents[2]


def test_the_readme_example_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.+?)```", text, re.DOTALL)[0]
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    shape, difference = printed.rsplit(" ", 1)
    assert shape == "(8, 256)"
    assert 0 < float(difference) < 0.5


def test_the_readme_brings_a_model_from_onnx_to_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(small_bert(17), "model.onnx")
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Whole models")[2]
    commands, code = (re.findall(rf"```{language}\n(.+?)```", text, re.DOTALL)[0] for language in ("sh", "python"))
    assert len(commands.splitlines()) == 4
    for command in commands.splitlines():
        subprocess.run([sys.executable, "-m", *command.split()], check=True, capture_output=True)
    names: dict[str, Any] = {"dynq": dynq, **dict.fromkeys(("ids", "mask", "types"), np.ones((2, 9), np.int64))}
    exec(compile(code, "README.md", "exec"), names)
    assert names["outputs"]["last_hidden_state"].shape == (2, 9, 16)


def test_the_examples_of_models_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.+?)```", text, re.DOTALL):
        exec(compile(code, "docs/models.md", "exec"), names)
    assert np.array_equal(names["logits"], names["same"]) and names["logits"].shape == (8, 10)
    assert names["y"].shape == (2, 5, 32)
    became = {row.node: row.became for row in names["model"].report().rows}
    assert became["o"] == "float linear" and became["q"] == "int8 linear"


def writing_onnx() -> tuple[str, dict[str, Any]]:
    """Run the example of writing ONNX; return the text of docs/onnx.md from there on, and what the example has made."""
    text = (ROOT / "docs/onnx.md").read_text(encoding="utf-8").partition("## Writing ONNX")[2]
    names: dict[str, Any] = {"dynq": dynq, "np": np, "rng": np.random.default_rng(0)}
    exec(compile(re.findall(r"```python\n(.+?)```", text, re.DOTALL)[0], "docs/onnx.md", "exec"), names)
    return text, names


def test_the_example_of_writing_onnx_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writing_onnx()
    ops = {path.stem: {node.op_type for node in onnx.load(path).graph.node} for path in tmp_path.glob("*.onnx")}
    assert "MatMulInteger" in ops["dynamic"] and ops["weights"] == {"DequantizeLinear", "MatMul", "Relu"}
    assert ops["float"] == {"MatMul", "Relu"} and ops["layers"] == {"DynqLinear"}


def test_the_example_of_layers_in_onnx_runtime_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, names = writing_onnx()
    runtime = text.partition("## dynq's layers in ONNX Runtime")[2]
    (command,) = re.findall(r"```sh\n(.+?)\n```", runtime)
    names["model"].save("model.dynq")
    subprocess.run([sys.executable, "-m", *command.split()], check=True, capture_output=True)
    exec(compile(re.findall(r"```python\n(.+?)```", runtime, re.DOTALL)[0], "docs/onnx.md", "exec"), names)
    assert names["y"].shape == (8, 10)


def test_the_examples_of_analysis_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/analysis.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.+?)```", text, re.DOTALL):
        exec(compile(code, "docs/analysis.md", "exec"), names)
    assert "down" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert {row.name for row in names["analysis"].worst} == {"up", "down"}
    assert all("fixed range" in row.became for row in dynq.load("static.dynq").report().rows)
    fields = set(re.findall(r"`(\w+)`", text.partition("| column |")[2].partition("A layer's output")[0]))
    assert fields <= set(dynq.accuracy.LayerRow.__dataclass_fields__) | {"exact", "y"}


def test_the_package_docstring_runs() -> None:
    failed, attempted = doctest.testmod(dynq)
    assert attempted > 3 and failed == 0


@pytest.mark.parametrize(
    "document", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+?)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


NAMED = re.compile(
    r"(?<![\w/.-])((?:tests|bench|native|python|docs|examples)/[\w./-]*\.(?:py|c|h|md|sh|def|jsonl|txt|gz))\b"
)


def test_files_that_documents_name_exist() -> None:
    documents = {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")} - {ROOT / "CHANGELOG.md"}  # it names files as they were
    named = {(path.name, name) for path in documents for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 50
    assert {pair for pair in named if not (ROOT / pair[1]).exists()} == set()


def test_the_readme_lists_the_instruction_sets() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == dynq.isa.names()


def test_the_errors_of_activations_are_those_that_the_checks_allow() -> None:
    listed = (ROOT / "native/src/kernels/unary.def").read_text(encoding="utf-8")
    checked = (ROOT / "tests/native/check_math.c").read_text(encoding="utf-8")
    allowed = {
        op.lower(): float(ulps) for op, ulps in re.findall(r"^DYNQ_UNARY\w*\((\w+), ([\d.]+),", listed, re.MULTILINE)
    }
    table = re.findall(r'\{"(\w+)", DYNQ_ACTIVATION_\w+, \w+, ([\d.]+),', checked)
    allowed |= {name: float(ulps) for name, ulps in table}
    text = (ROOT / "docs/activations.md").read_text(encoding="utf-8").partition("At the ends:")[0]
    rows = re.findall(r"^\| (\w+) \| .+ \| ([\d.]+).* \|$", text, re.MULTILINE)
    assert len(rows) == 10
    assert {name: float(ulps) for name, ulps in rows}.items() <= allowed.items()


def test_the_coefficients_are_those_of_the_fit() -> None:
    subprocess.run([sys.executable, str(ROOT / "tools/fit_activations.py"), "--check"], check=True, capture_output=True)


def outside_of_parentheses(text: str) -> str:
    """Return the text without what stands in parentheses, which may have others in them."""
    while (shorter := re.sub(r"\([^()]*\)", "", text)) != text:
        text = shorter
    return text


def test_the_table_of_ops_in_the_format_is_that_of_the_library() -> None:
    text = (ROOT / "docs/model-format.md").read_text(encoding="utf-8").partition("## Ops")[2]
    lines = [line for line in text.splitlines() if line.startswith("| `dynq.")]
    told = {}
    for line in lines:
        op, inputs, attributes, _ = (cell.strip() for cell in line.strip("|").split("|"))
        operands = [given.strip() for given in outside_of_parentheses(inputs).split(",")]
        told[op.strip("`")] = (
            [(re.match(r"\w+", given).group(), "?" in given) for given in operands],  # type: ignore[union-attr]
            set(re.findall(r"`(\w+)`", attributes)),
        )
    assert told == {
        name: ([(given.name, given.optional) for given in op.inputs], set(op.attributes))
        for name, op in ops.table().items()
        if name.startswith("dynq.")
    }


def test_the_ops_of_onnx_runtime_that_are_listed_are_those_that_are_read() -> None:
    text = (ROOT / "docs/onnx.md").read_text(encoding="utf-8")
    section = re.search(r"## Ops of ONNX Runtime\n(.+?)\n## ", text, re.DOTALL)
    assert section is not None
    lists = re.findall(r"^- [^:]+: (.+?)\.\s", section.group(1), re.DOTALL | re.MULTILINE)
    names = {name for listed in lists for name in re.findall(r"[A-Z]\w+", listed)}
    assert names == {op for domain, op in CONVERTERS if domain == "com.microsoft"}
