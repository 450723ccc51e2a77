"""``dynq bench linear, peers, compare``: the right layers, figures that agree with each other, errors of one line."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

import dynq
from dynq.bench import compare, peers, process, shapes
from dynq.bench.program import measure
from dynq.bench.shapes import Shape
from dynq.cli import cli
from tests.python.references.onnx_runtime import saturates


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dynq", "bench", *arguments],
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
    )


def facts(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def linear() -> dict[str, Any]:
    return facts("linear", "--quick", "--threads", "1", "--threads", "2", "--shape", "4x100x30", "--shape", "1x64x64")


def test_every_instruction_set_number_of_threads_and_shape_is_measured(linear: dict[str, Any]) -> None:
    assert [(r["isa"], r["threads"], shapes.of(r)) for r in linear["results"]] == [
        (isa, threads, shape)
        for isa in dynq.isa.supported()
        for threads in (1, 2)
        for shape in (Shape(4, 100, 30), Shape(1, 64, 64))
    ]


def test_operations_and_bytes_of_a_layer_are_counted_right(linear: dict[str, Any]) -> None:
    for row in linear["results"]:
        m, n, k = shapes.of(row)
        assert row["gops"] * row["us"] == pytest.approx(2e-3 * m * n * k, rel=1e-4)
        padded_n, padded_k = -(-n // 16) * 16, -(-k // 4) * 4
        touched = padded_n * padded_k + 8 * padded_n + 4 * m * (n + k)
        assert row["gb_per_s"] * row["us"] == pytest.approx(1e-3 * touched, rel=1e-4)


def test_shares_are_of_the_whole_and_each_kernel_has_one(linear: dict[str, Any]) -> None:
    for row in linear["results"]:
        parts = [row[f"share_{part}"] for part in ("range", "quantize", "gemm", "epilogue")]
        assert all(0 < part < 1 for part in parts)
        assert row["share_rest"] == pytest.approx(1 - sum(parts), abs=1e-4) or sum(parts) > 1


def test_the_limit_is_known_but_of_scalar_and_is_the_lower_one(linear: dict[str, Any]) -> None:
    for row in linear["results"]:
        known = row["isa"] != "scalar"
        assert (row["of_limit"] is not None) == (row["peak_gops"] is not None) == known
        assert row["bandwidth_gb_per_s"] > 0 and row["limit"] in ("peak", "bandwidth")


def test_the_program_and_the_package_have_the_same_layers() -> None:
    _, results = measure(["linear", "--quick", "--rounds", "1", "--threads", "1"], lambda done, total: None)
    assert [shapes.of(r) for r in results] == list(shapes.load())


def test_progress_of_linear_reaches_its_end() -> None:
    seen: list[tuple[int, int]] = []
    arguments = ["linear", "--quick", "--threads", "1", "--shape", "1x64x64"]
    measure(arguments, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_tables_fit_the_terminal_and_name_layers_where_there_is_room(columns: str) -> None:
    arguments = ("--quick", "--threads", "1", "--shape", "128x3072x768", "--isa", dynq.isa.supported()[0])
    done = run("linear", *arguments, COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    assert "128x3072x768" in done.stdout and "…" not in done.stdout
    assert ("BERT base feed-forward, 128 tokens" in done.stdout) == (columns == "120")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linear", "--isa", "mmx"), "unknown instruction set 'mmx'"),
        (("linear", "--shape", "12"), "--shape is '12'; expected MxNxK, such as 128x768x768"),
        (("linear", "--shape", "0x1x1"), "--shape is '0x1x1'; expected MxNxK, such as 128x768x768"),
        (("linear", "--shape", "1x1x99999999999"), "--shape is '1x1x99999999999'; expected MxNxK"),
        (("peers", "--peer", "abacus"), "--peer is 'abacus'; known: dynq, dynq out, numpy float32"),
        (("compare", "no.json", "no.json"), "no.json: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith(f"dynq: {message}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["linear", "peers"])
@pytest.mark.parametrize("threads", ["0", "999"])
def test_a_number_of_threads_that_is_not_possible_is_refused(command: str, threads: str) -> None:
    done = run(command, "--quick", "--threads", threads)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith(f"{threads} is not in the range 1<=x<=512.")


def test_the_table_of_layers_is_printed_where_the_locale_is_ascii() -> None:
    arguments = ("--quick", "--threads", "1", "--shape", "1x64x64", "--isa", "scalar")
    done = run("linear", *arguments, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stderr == "" and "1x64x64" in done.stdout and done.stdout.isascii()


def test_what_is_given_twice_is_measured_once() -> None:
    (row,) = facts("linear", "--quick", *("--isa", "scalar", "--threads", "1", "--shape", "1x64x64") * 2)["results"]
    assert row["threads"] == 1 and shapes.of(row) == Shape(1, 64, 64)


# ---- Peers

# CI names the peers that must be there; a missing one then fails.
EXPECTED = os.environ.get("DYNQ_EXPECTED_PEERS")
PRESENT = EXPECTED.split(",") if EXPECTED is not None else process.choose((), peers.NEEDED)[0]


@pytest.mark.parametrize("name", PRESENT)
def test_every_peer_that_is_installed_computes_the_layer(name: str) -> None:
    assert name in process.choose((name,), peers.NEEDED)[0]
    layers = [Shape(3, 80, 64), Shape(1, 64, 256)]
    results = peers.measure(list(dict.fromkeys(["dynq", name])), [1], layers, 1, True, lambda done, total: None)
    own = [r for r in results if r["peer"] == name]
    assert [shapes.of(r) for r in own] == layers
    for r in own:
        most = 1e-5 if "float32" in name else 0.1 if name.startswith("onnxruntime int8") and saturates() else 0.04
        assert 0 < r["error"] < most and r["us"] > 0


def test_peers_are_compared_with_dynq_and_a_picture_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "peers.svg"
    arguments = ("--peer", "numpy float32", "--quick", "--rounds", "1", "--threads", "1", "--shape", "2x96x64")
    result = facts("peers", *arguments, "--plot", str(picture))
    dynq_row, numpy_row = result["results"]
    assert dynq_row["peer"] == "dynq" and dynq_row["x_dynq"] == 1
    assert numpy_row["x_dynq"] == pytest.approx(numpy_row["us"] / dynq_row["us"])
    assert "<!-- numpy float32 -->" in picture.read_text("utf-8")


def test_a_peer_that_is_not_installed_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "installed", lambda package: package in ("dynq", "numpy", "onnxruntime"))
    present, missing = process.choose((), peers.NEEDED)
    assert present == ["dynq", "dynq out", "numpy float32"]
    assert missing["onnxruntime int8"] == "onnx" and missing["torch int8"] == "torch"
    with pytest.raises(dynq.Error, match=r"torch int8 needs torch: pip install 'dynq\[peers\]'"):
        process.choose(("torch int8",), peers.NEEDED)
    done = CliRunner().invoke(
        cli, ["bench", "peers", "--quick", "--rounds", "1", "--threads", "1", "--shape", "1x64x64"]
    )
    text = " ".join(done.stdout.split())  # the terminal breaks lines
    assert "torch int8 (no torch)" in text and "pip install 'dynq[peers]'" in text


def test_medians_count_and_times_are_compared_with_dynq_in_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    times = {"dynq": [3.0, 2.0, 4.0], "numpy float32": [9.0, 8.0, 6.0]}
    replace_peers(monkeypatch, times, asked)
    a, b = peers.measure(list(times), [1], [Shape(1, 64, 64)], 3, True, lambda done, total: None)
    assert (a["us"], b["us"], b["x_dynq"], b["error"]) == (3.0, 8.0, 3.0, 0.5)
    assert asked == ["dynq", "numpy float32", "numpy float32", "dynq", "dynq", "numpy float32"]


def replace_peers(monkeypatch: pytest.MonkeyPatch, times: dict[str, list[float]], asked: list[str]) -> None:
    """Let peers answer with these times in place of processes. Each that answers is added to ``asked``."""

    class Replaced:
        def __init__(self, module: str, name: str, threads: int) -> None:
            self.name, self.times = name, iter(times[name])

        def ask(self, job: dict[str, Any]) -> dict[str, Any]:
            asked.append(self.name)
            return {**dict(zip("mnk", job["shape"], strict=True)), "us": next(self.times), "error": 0.5}

        def close(self) -> None:
            pass

    monkeypatch.setattr(process, "Peer", Replaced)


def test_peers_may_run_on_every_cpu_that_this_process_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # What numpy finds stands for the peer: it writes down which CPUs it may use, and how many threads it is told.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"with open({str(tmp_path / 'cpus')!r}, 'w') as file:\n"
        "    print(sorted(os.sched_getaffinity(0)), os.environ['OPENBLAS_NUM_THREADS'], file=file)\n",
        "utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    peers.measure(["dynq"], [1], [Shape(1, 64, 64)], 1, True, lambda done, total: None)
    assert (tmp_path / "cpus").read_text("utf-8") == f"{sorted(os.sched_getaffinity(0))} 1\n"


def test_shapes_are_drawn_the_same_for_a_seed_and_have_means_of_their_own() -> None:
    drawn = shapes.draw(40, 7)
    assert drawn == shapes.draw(40, 7) != shapes.draw(40, 8) and len(set(drawn)) == 40
    assert all(1 <= m <= 512 and 32 <= n <= 4096 and 32 <= k <= 4096 and m * n * k <= 2**32 for m, n, k in drawn)
    assert any(n % 16 for _, n, _ in drawn) and any(k % 4 for _, _, k in drawn)
    arguments = ("--quick", "--rounds", "1", "--threads", "1", "--shape", "1x64x64", "--draw", "1", "--seed", "3")
    done = run("peers", "--peer", "numpy float32", *arguments)
    assert done.returncode == 0, done.stderr
    assert str(shapes.draw(1, 3)[0]) in done.stdout and "drawn, mean" in done.stdout
    assert done.stdout.count("dynq behind") == 2 and "other processes had" in done.stdout


def test_a_narrow_table_shows_the_fastest_form_of_a_runtime_and_the_fastest_of_all() -> None:
    ratios = {name: 3.0 - i / 10 for i, name in enumerate(peers.NEEDED)} | {"dynq": 1.0, "dynq out": 0.5}
    rows = [
        {"peer": name, "threads": 1, "m": 512, "n": 4096, "k": 4096, "us": 9e3, "error": 0.01, "drawn": False,
         "x_dynq": ratio} for name, ratio in ratios.items()
    ]  # fmt: skip
    for width in (80, 120):
        out = Console(width=width, file=io.StringIO())
        (table,) = peers.tables(rows, width)
        assert out.measure(table).maximum <= width
        out.print(table)
        cells = next(line for line in out.file.getvalue().splitlines() if "512x4096" in line).split()  # type: ignore[attr-defined]
        assert cells[-1] == f"{min(r for name, r in ratios.items() if not name.startswith('dynq')):.2f}"
        assert (f"{ratios['openvino int8']:.2f}" in cells) == (width == 120)


def test_a_peer_that_fails_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('broken')\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(dynq.Error, match="openvino int8 failed: ImportError: broken"):
        peers.measure(["openvino int8"], [1], [Shape(1, 64, 64)], 1, True, lambda done, total: None)


def test_a_peer_for_which_all_is_given_twice_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    replace_peers(monkeypatch, {"dynq": [1.0]}, asked)
    twice = ["--peer", "dynq", "--threads", "1", "--shape", "1x64x64"] * 2
    done = CliRunner().invoke(cli, ["bench", "peers", "--rounds", "1", *twice])
    assert done.exit_code == 0 and asked == ["dynq"]


def test_a_peer_imports_nothing_from_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the json.py of the current folder')\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    (row,) = peers.measure(["dynq"], [1], [Shape(1, 64, 64)], 1, True, lambda done, total: None)
    assert row["us"] > 0


def test_a_wrong_dynq_isa_is_told_before_a_peer_is_started() -> None:
    done = run("peers", "--quick", "--threads", "1", "--shape", "1x64x64", DYNQ_ISA="bogus")
    assert done.returncode == 1 and done.stdout == ""
    known = " ".join(dynq.isa.names())
    assert done.stderr.splitlines() == [f"dynq: DYNQ_ISA: unknown instruction set 'bogus'; known: {known}"]


# ---- Compare


def test_compare_matches_rows_and_says_how_many_times_faster_the_second_is(
    linear: dict[str, Any], tmp_path: Path
) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(linear), "utf-8")
    faster = {**linear, "results": [{**r, "us": r["us"] / 2} for r in linear["results"][:-1]]}
    b.write_text(json.dumps(faster), "utf-8")
    rows = compare.compare(compare.load(str(a)), compare.load(str(b)))
    assert len(rows) == len(linear["results"]) - 1
    assert all(row["ratio"] == pytest.approx(2) for row in rows)
    done = run("compare", str(a), str(b))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "2.00" and max(map(len, done.stdout.splitlines())) <= 80


def test_compare_refuses_what_cannot_be_compared(linear: dict[str, Any], tmp_path: Path) -> None:
    isa = {"machine": {"command": "isa"}, "results": []}
    with pytest.raises(dynq.Error, match="one is of 'bench linear', the other of 'bench isa'"):
        compare.compare(linear, isa)
    with pytest.raises(dynq.Error, match="no row in common"):
        compare.compare(linear, {**linear, "results": []})
    for text in (
        "",
        "[]",
        '{"machine": {}}',
        '{"machine": {"command": "linear"}}',
        '{"machine": {"command": "linear"}, "results": []}',
    ):
        (tmp_path / "x.json").write_text(text, "utf-8")
        with pytest.raises(dynq.Error, match=r"x\.json: expected what 'dynq bench isa"):
            compare.load(str(tmp_path / "x.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"us": None}, "result 1 has the time us None; expected a number above 0"),
        ({"us": 0}, "result 1 has the time us 0; expected a number above 0"),
        ({"m": None}, "result 1 has the m None; expected a name or a whole number"),
    ],
)
def test_compare_names_the_result_that_is_broken(
    linear: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    broken = tmp_path / "x.json"
    row, *others = linear["results"]
    broken.write_text(json.dumps({**linear, "results": [{**row, **change}, *others]}), "utf-8")
    with pytest.raises(dynq.Error, match=rf"x\.json: {message}"):
        compare.load(str(broken))
    lacking = {name: value for name, value in row.items() if name not in ("us", "isa")}
    broken.write_text(json.dumps({**linear, "results": [*others, lacking]}), "utf-8")
    with pytest.raises(dynq.Error, match=rf"x\.json: result {len(others) + 1} has no isa, us"):
        compare.load(str(broken))


def test_the_roofline_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "linear.svg"
    done = run(
        "linear", "--quick", "--threads", "1", "--shape", "1x64x64", "--shape", "9x64x64", "--plot", str(picture)
    )
    assert done.returncode == 0, done.stderr
    text = picture.read_text("utf-8")
    assert all(f"<!-- {isa}, 1 thread -->" in text for isa in dynq.isa.supported())
    assert "<!-- operations a byte -->" in text and "<!-- GOP/s -->" in text
