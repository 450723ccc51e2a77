"""The conformance set is what the reference writes, and `dynq selftest` finds what differs from it."""

import itertools
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dynq
from dynq import selftest
from dynq.core import vectors as _vectors
from tests.python.references import reference, reference_activations

F = np.float32
FOLDER = Path(__file__).parents[2] / "vectors"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dynq", "selftest", *arguments],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (_vectors.INDEX, _vectors.DATA):
        shutil.copy(FOLDER / name, tmp_path)
    return tmp_path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def seal(folder: Path) -> None:
    """Make the checksums right again after a change, so that only the comparison can find it."""
    data = (folder / _vectors.DATA).read_bytes()
    lines = (folder / _vectors.INDEX).read_text().splitlines()
    lines[1] = f"data {len(data)} {_vectors.checksum(data):016x}"
    body = "\n".join([*lines[:-1], ""])
    end = f"end {lines[-1].split()[1]} {_vectors.checksum(body.encode()):016x}\n"
    (folder / _vectors.INDEX).write_text(body + end)


def test_every_instruction_set_gives_the_bits_and_has_its_line() -> None:
    done = command()
    assert done.returncode == 0, done.stderr
    for name in dynq.isa.names():
        why = "the same bits" if name in dynq.isa.supported() else dynq.isa.explain(name)[:20]
        assert any(name in line and why in line for line in done.stdout.splitlines())


def test_json_says_how_many_cases_ran_and_why_others_did_not() -> None:
    results = {r["isa"]: r for r in json.loads(command("--json").stdout)["isas"]}
    count = len(_vectors.load(FOLDER).cases)
    assert list(results) == dynq.isa.names()
    for name, result in results.items():
        runs = name in dynq.isa.supported()
        assert result["cases"] == (count if runs else 0) and result["failures"] == []
        assert (result["seconds"] > 0) == runs
        assert runs or result["why"] == dynq.isa.explain(name)


def test_one_instruction_set_can_be_named_and_one_that_cannot_run_is_an_error() -> None:
    done = command("--isa", "scalar", "--json")
    assert [r["isa"] for r in json.loads(done.stdout)["isas"]] == ["scalar"]
    for name in ["avx1024", *set(dynq.isa.names()) - set(dynq.isa.supported())]:
        done = command("--isa", "scalar", "--isa", name)
        assert done.returncode == 1 and name in done.stderr and done.stdout == ""


@pytest.mark.parametrize("name", [_vectors.INDEX, _vectors.DATA])
@pytest.mark.parametrize("place", [0, 0.1, 0.5, 0.9, 1])
def test_one_flipped_bit_in_a_file_is_found(copy: Path, name: str, place: float) -> None:
    size = (copy / name).stat().st_size
    flip(copy / name, min(int(place * size), size - 2))  # the last byte of the index is the end of its line
    with pytest.raises(dynq.FileFormatError):
        selftest.run(["scalar"], copy)


def test_a_damaged_or_missing_set_is_one_line_and_status_1(copy: Path) -> None:
    flip(copy / _vectors.DATA, 1000)
    done = command("--vectors", str(copy))
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"dynq: .*data\.bin is damaged: .*\n", done.stderr)
    (copy / _vectors.DATA).unlink()
    done = command("--vectors", str(copy))
    assert done.returncode == 1 and re.fullmatch(r"dynq: .*No such file.*\n", done.stderr)


@pytest.mark.parametrize("source", ["stored", "hash"])
def test_one_bit_that_differs_is_told_with_its_case_and_instruction_set(copy: Path, source: str) -> None:
    case, line = next(
        (case, line)
        for case in _vectors.load(copy).cases
        for line in case.outputs()
        if case.op == "linear" and line.source == source and line.count
    )
    if source == "stored":
        flip(copy / _vectors.DATA, line.number)
    else:
        text = (copy / _vectors.INDEX).read_text()
        (copy / _vectors.INDEX).write_text(text.replace(f"{line.number:016x}", f"{line.number ^ 1:016x}"))
    seal(copy)
    done = command("--vectors", str(copy), "--isa", dynq.isa.supported()[0])
    assert done.returncode == 1
    assert f"{dynq.isa.supported()[0]}: {case}: y" in done.stderr and "expected" in done.stderr
    assert "differ" in done.stdout and "the same bits" not in done.stdout


@pytest.mark.parametrize("op", selftest._OPERATIONS)
def test_an_operation_that_errs_in_one_bit_is_found(monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    right: Callable[[_vectors.Case, dict[str, np.ndarray]], dict[str, np.ndarray]] = selftest._OPERATIONS[op]

    def wrong(case: _vectors.Case, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = {name: np.array(value) for name, value in right(case, given).items()}
        for value in outputs.values():
            value.reshape(-1).view(np.uint8)[-1:] ^= 1
        return outputs

    monkeypatch.setitem(selftest._OPERATIONS, op, wrong)
    failures = selftest.run(["scalar"])[0].failures
    cases = [case for case in _vectors.load(FOLDER).cases if case.op == op]
    with_outputs = [case for case in cases if any(line.count for line in case.outputs())]
    assert all(any(f"{case}: {line.name}" in f for f in failures) for case in with_outputs for line in case.outputs()
               if line.count)  # fmt: skip
    assert {" ".join(f.split()[:3]) for f in failures} == {f"case {case.number} {op}" for case in with_outputs}


def test_a_call_that_does_not_refuse_what_it_should_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = selftest._OPERATIONS["gemm_s32"]

    def lenient(case: _vectors.Case, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return right(case, given)
        except dynq.AccumulatorOverflowError:
            return {}

    monkeypatch.setitem(selftest._OPERATIONS, "gemm_s32", lenient)
    failures = selftest.run(["scalar"])[0].failures
    assert failures and all("the call's status is ok; expected overflow" in f for f in failures)


def test_threads_and_instruction_set_stay_as_they_were() -> None:
    dynq.set_num_threads(2)
    dynq.isa.select("scalar")
    selftest.run()
    assert dynq.get_num_threads() == 2 and dynq.isa.selected() == "scalar"


def test_the_installed_set_is_the_one_in_the_repository() -> None:
    for name in (_vectors.INDEX, _vectors.DATA):
        assert (selftest.INSTALLED / name).read_bytes() == (FOLDER / name).read_bytes()


def test_the_files_are_what_the_generator_writes() -> None:
    done = subprocess.run([sys.executable, str(FOLDER / "generate.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


def test_the_generator_finds_a_file_that_it_would_write_otherwise(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(FOLDER / "generate.py", copy)
    generator = runpy.run_path(str(FOLDER / "generate.py"))
    main = generator["main"]
    main.__globals__["FOLDER"] = copy
    assert main(["--check"]) == 0
    flip(copy / _vectors.DATA, 7)
    assert main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("data.bin is not what")


def test_the_set_has_every_operation_option_and_status() -> None:
    cases = _vectors.load(FOLDER).cases
    assert {case.op for case in cases} == set(selftest._OPERATIONS)
    options = {
        (case.op, *(case.options.get(key, "") for key in ("scheme", "granularity", "type", "activation")))
        for case in cases
    }
    schemes, granularities, types = ("asymmetric", "symmetric"), ("row", "tensor"), ("u8", "s8")
    for scheme, granularity in itertools.product(schemes, granularities):
        assert ("minmax", "", granularity, "", "") in options
        assert ("matmul", scheme, granularity, "", "") in options
        for activation in reference_activations.FUNCTIONS:
            assert ("linear", scheme, granularity, "", activation) in options
        for type_ in types:
            assert ("choose_qparams", scheme, "", type_, "") in options
            assert ("quantize", scheme, granularity, type_, "") in options
            assert ("quantize_dynamic", scheme, granularity, type_, "") in options
            assert ("dequantize", "", granularity, type_, "") in options
            assert ("gemm_s32", "", granularity, type_, "") in options
    assert {case.options.get("status", "ok") for case in cases} == {"ok", "nonfinite", "overflow"}
    linear = [case for case in cases if case.op == "linear"]
    shapes = [{line.name: line.shape for line in case.inputs()} for case in linear]
    assert {shape["x"][0] for shape in shapes} >= set(range(34))
    assert max(shape["x"][1] for shape in shapes) > 65_536
    assert any("w_zero_point" in shape for shape in shapes) and any("min" in case.options for case in linear)


def test_the_set_is_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in (_vectors.INDEX, _vectors.DATA)) < 400_000


def test_the_examples_of_its_readme_are_true() -> None:
    text = (FOLDER / "README.md").read_text()
    zero = int(_vectors.mix(np.zeros(1, np.uint64))[0])
    values = ", ".join(str(x) for x in _vectors.fill("uniform", 1, "f32", 3))
    assert f"mix(0) = `{zero:016x}`" in text and f"`fill uniform 1` begins {values}" in text
    assert f"`abc` is `{_vectors.checksum(b'abc'):016x}`" in text
    index = (FOLDER / _vectors.INDEX).read_text().splitlines()
    assert all(line in text for line in (index[0], *index[2:6]))


def test_the_checksum_depends_on_every_byte_and_on_their_order() -> None:
    data = bytes(range(1, 12))
    others = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
    others += [data + b"\0", data[:-1], data[4:8] + data[:4] + data[8:], bytes(11)]
    assert len({_vectors.checksum(other) for other in (data, *others)}) == len(others) + 1


@pytest.mark.parametrize("name", reference_activations.FUNCTIONS)
def test_activations_are_the_sequence_of_operations_that_is_documented(isa: str, name: str) -> None:
    x = np.arange(0, 2**32, 90_001, dtype=np.uint64).astype(np.uint32).view(F)  # every kind of float, NaN too
    near = np.linspace(-20, 20, 16 * 1001, dtype=F)
    for bias in (x, near):
        qw = dynq.quantize_weight(np.zeros((len(bias), 1), F))
        y = dynq.linear(np.zeros((1, 1), F), qw, bias, activation=None if name == "none" else name)[0]
        with np.errstate(invalid="ignore"):  # signalling NaN
            argument = F(0) + bias  # the sum, which turns -0 into +0
        expected = reference_activations.finish(argument, name)
        assert np.array_equal(reference.bits(y), reference.bits(expected))
