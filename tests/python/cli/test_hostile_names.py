"""Names of strangers on a terminal: no command obeys an escape sequence or markup in a name of a node or a file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import dynq
from dynq.terminal import SafeConsole, visible

NAMES = ["\x1b]0;title\x07\x1b[31mred", "[/]", "[bold]x[/bold]", "[/red]\x1b[2J", "a\rb\x08\x9b1m", ":smile:\u202eabc"]
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


def names(number: int) -> str:
    return f"{NAMES[number % len(NAMES)]}{number}"


def hostile_graph() -> dynq.Graph:
    graph = dynq.Graph(names(0))
    rng = np.random.default_rng(0)
    x = graph.input(names(0), ("batch[/]\x1b[1m", 16), "float32")
    hidden = x
    for i in range(12):
        weight = graph.constant(rng.standard_normal((16, 16)).astype(np.float32), names(20 + i))
        hidden = graph.node("MatMul", [hidden, weight], [names(40 + i)], names(60 + i))[0]
    hidden = graph.node("Sin", [hidden], [names(80)], names(80))[0]
    graph.output(hidden, names(1))
    graph.output(graph.node("Sigmoid", [hidden], [names(81)], names(81))[0], names(2))
    return graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names") / "["  # paths in it hold a closing tag
    folder.mkdir()
    graph = hostile_graph()
    dynq.export_onnx(graph, folder / "]\x1b[2J.onnx")
    graph.build(keep_float=[names(61)], default="int8").save(folder / "]\x1b[1m.dynq")
    return folder


def told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    """Run the command as the shell does: status, and all that it wrote."""
    from dynq.cli import main

    monkeypatch.setattr("sys.argv", ["dynq", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capfd.readouterr()
    found = OBEYED.search(out + err)
    assert found is None, repr((out + err)[max(found.start() - 60, 0) : found.end() + 20])
    return int(caught.value.code or 0), out + err


def test_no_command_obeys_a_name(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, model, made = folder / "]\x1b[2J.onnx", folder / "]\x1b[1m.dynq", folder / "][new]\x1b[3m.dynq"
    shape = f"--shape={names(0)}=2x16"
    monkeypatch.setenv("COLUMNS", "200")
    for arguments in (
        ("quantize", source, "-o", made, "--keep-float", names(62)),
        ("quantize", source, "-o", made, "--json"),
        ("inspect", model),
        ("inspect", model, "--verify"),
        ("inspect", model, "--json"),
        ("verify", model),
        ("run", model, shape),
        ("run", model, shape, "--json"),
        ("compare", source, model, shape),
        ("compare", source, model, shape, "--static"),
        ("analyze", source, shape, "--default", "int8"),
        ("analyze", source, shape, "--culprits", "--default", "int8"),
        ("analyze", source, shape, "--html", folder / "]\x1b.html", "--default", "int8"),
        ("export", model, "-o", folder / "[x]\x1b[4m.onnx"),
        ("export", model, "-o", folder / "[x]\x1b[4m.onnx", "--external-data"),
    ):
        status, text = told(capfd, monkeypatch, *arguments)
        assert status == 0, (arguments, text)
        if arguments[:2] == ("inspect", model) and "--json" not in arguments:
            assert "\\x1b]0;title\\x07\\x1b[31mred0" in text and "[bold]x[/bold]2" in text and ":smile:\\u202e" in text


def test_no_error_obeys_a_name(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, model = folder / "]\x1b[2J.onnx", folder / "]\x1b[1m.dynq"
    bad = folder / "]\x1b[5mbad[bold]"
    bad.write_bytes(b"not a model")
    for arguments in (
        ("quantize", bad, "-o", folder / "x.dynq"),
        ("quantize", source, "-o", folder / "no\x1b[1m" / "x.dynq"),
        ("quantize", folder / "missing\x1b[1m[/]", "-o", "x"),
        ("quantize", source, "-o", folder / "x.dynq", "--input-value", "\x1b[1m=[/]"),
        ("quantize", source, "-o", folder / "x.dynq", "--input-value", "\x1b[1m=1"),
        ("inspect", bad),
        ("verify", bad),
        ("run", model),
        ("run", model, "--shape", "\x1b[1m=1"),
        ("run", model, f"--input={names(0)}={bad}"),
        ("compare", source, model, f"--shape={names(0)}=2x3"),
        ("\x1b[1m[/]",),
        ("--\x1b[1m[/]",),
    ):
        status, text = told(capfd, monkeypatch, *arguments)
        assert status in (1, 2) and text.strip(), (arguments, text)


def test_an_onnx_file_that_cannot_be_imported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    for op, domain in (("\x1b[1mOp[/]", ""), ("Relu", "\x1b[1m[/]"), ("Erf", "")):
        node = onnx.helper.make_node(op, ["\x1b[1mx"], ["y[/]"], "\x1b[2Jnode[/]", domain=domain, **{"\x1ba": "\x1bv"})
        graph = onnx.helper.make_graph([node], "\x1bg", [info("\x1b[1mx", 1, [2])], [info("y[/]", 1, [2])])
        imports = [onnx.helper.make_opsetid(name, 17) for name in {"", domain}]
        path = tmp_path / "m.onnx"
        onnx.save(onnx.helper.make_model(graph, opset_imports=imports), path)
        status, text = told(capfd, monkeypatch, "quantize", path, "-o", tmp_path / "m.dynq")
        assert status == 1 and text.startswith("dynq: ") and "[/]" in text, text


def test_reports_as_text_hold_names_as_they_are() -> None:
    model = hostile_graph().build(keep_float=[names(61)], default="int8")
    for text in (str(model.report()), str(dynq.accuracy.analyze(hostile_graph(), default="int8"))):
        assert not OBEYED.search(text)
        assert "[/]61" in re.sub(r"\s", "", text) and "\\x1b" in text


def test_what_a_terminal_obeys_is_shown() -> None:
    assert visible("a\x1b[1m\tb\nü漢\u2028\ud800") == "a\\x1b[1m\\tb\nü漢\\u2028\\ud800"
    console = SafeConsole(width=40, force_terminal=True)
    with console.capture() as capture:
        console.print("[bold]\x1b[5m:smile:")
    assert capture.get() == "[bold]\\x1b[5m:smile:\n"
