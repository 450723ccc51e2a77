#!/usr/bin/env bash
# Runs the Python tests on AArch64: Debian's Python for it under QEMU's user emulation, with the wheel of $1/wheels and
# what it needs from other projects' wheels. A test that does not run fails this script, but for those named here.
set -euo pipefail
work=$1
here=$work/aarch64_python
root=$work/roots/bookworm-arm64

# What would take minutes there, and why it is no loss. The sentence encoder on portable C, which the machine's own
# processor runs too, and its command: NumPy's float32 BLAS, emulated, takes seconds a sentence. Fewer sentences, the
# smaller network and the other instruction sets stay. Of the conformance set, what is told of it: each of these tests
# computes all of it once more; that every instruction set gives its bits stays. So do the errors of one operation that
# are planted in Python.
not_here=(
  tests/python/cli/test_demo.py::test_the_sentence_encoder_finds_the_other_sentence_of_a_pair
  "tests/python/cli/test_demo.py::test_the_sentence_encoder_keeps_its_embeddings[scalar]"
  tests/python/core/test_selftest.py::test_json_says_how_many_cases_ran_and_why_others_did_not
  tests/python/core/test_selftest.py::test_one_instruction_set_can_be_named_and_one_that_cannot_run_is_an_error
  tests/python/core/test_selftest.py::test_a_damaged_or_missing_set_is_one_line_and_status_1
  "tests/python/core/test_selftest.py::test_one_bit_that_differs_is_told_with_its_case_and_instruction_set[stored]"
  "tests/python/core/test_selftest.py::test_one_bit_that_differs_is_told_with_its_case_and_instruction_set[hash]"
  tests/python/core/test_selftest.py::test_threads_and_instruction_set_stay_as_they_were
  tests/python/core/test_selftest.py::test_a_call_that_does_not_refuse_what_it_should_is_found
)
for operation in linear quantize_dynamic matmul gemm_s32 dequantize weight minmax quantize choose_qparams; do
  not_here+=("tests/python/core/test_selftest.py::test_an_operation_that_errs_in_one_bit_is_found[$operation]")
done
# What prints, draws, makes graphs, quantizes models and reads or writes those of others is Python, the same on every
# processor. PyTorch is not installed there, and ONNX Runtime, which some of these compare with, does not start under
# QEMU. The ops of models run there in C (.ci/aarch64.sh: check_ops, check_model, the fuzzer), where each must give
# scalar's bits; the tests of dynq.Model and of a whole encoder stay. The commands that these files test are run below.
files_not_here=(
  tests/python/accuracy/test_*.py
  tests/python/bench/test_*.py
  tests/python/cli/test_cli.py
  tests/python/cli/test_hostile_names.py
  tests/python/cli/test_messages.py
  tests/python/cli/test_models.py
  tests/python/core/test_distributed.py
  tests/python/core/test_failing_memory.py # check_api and check_model let allocations fail there
  tests/python/core/test_fuzz_import.py
  tests/python/core/test_linear_finer.py
  tests/python/core/test_recurrent*.py
  tests/python/core/test_sklearn.py # fits networks in NumPy
  tests/python/core/test_saving.py # kills hundreds of processes
  tests/python/graph/test_attention*.py
  tests/python/graph/test_conv.py
  tests/python/graph/test_conv_bytes.py
  tests/python/graph/test_choice.py
  tests/python/graph/test_model_limits.py # sends signals at set times
  tests/python/graph/test_model_memory.py # what Python and NumPy hold
  tests/python/graph/test_ops_*.py
  tests/python/graph/test_passes*.py
  tests/python/graph/test_quantize.py
  tests/python/graph/test_random.py
  tests/python/graph/test_rotary.py
  tests/python/graph/test_shapes.py
  tests/python/graph/test_smooth.py
  tests/python/graph/test_state_of_caches.py
  tests/python/onnx/test_[!o]*.py tests/python/onnx/test_ol*.py tests/python/onnx/test_open*.py # all but test_operators.py
  tests/python/tflite/test_*.py
  tests/python/torch/test_*.py
  tests/python/test_plain_english.py
)
not_here+=(
  tests/python/test_documents.py::test_the_readme_brings_a_model_from_onnx_to_a_run
  tests/python/test_documents.py::test_the_example_of_layers_in_onnx_runtime_runs
)
# What computes in NumPy or scikit-learn alone, without dynq.
not_here+=(
  tests/python/test_documents.py::test_the_coefficients_are_those_of_the_fit
  tests/python/cli/test_demo.py::test_digits_data_is_small_and_is_the_held_out_part
  tests/python/core/test_selftest.py::test_the_files_are_what_the_generator_writes
  tests/python/core/test_selftest.py::test_the_generator_finds_a_file_that_it_would_write_otherwise
)

if ! command -v qemu-aarch64-static >/dev/null; then
  apt-get update -q >/dev/null
  apt-get install -q -y --no-install-recommends qemu-user-static >/dev/null
fi
.ci/unpack bookworm arm64 "$root" python3.11 libpython3.11-dev libstdc++6

# A virtual environment whose interpreter is a script that starts the emulator: sys.executable is that script, so a test
# that starts Python again gets the same one, and nothing is registered with the kernel.
rm -rf "$here"
mkdir -p "$here/bin" "$here/lib/python3.11/site-packages"
emulated() { # script to write, program that it starts
  printf '#!/bin/sh\nexec qemu-aarch64-static -cpu max,pauth-impdef=on -L %q -0 "$0" %q "$@"\n' "$root" "$2" >"$1"
  chmod +x "$1"
}
printf 'home = %s/usr/bin\ninclude-system-site-packages = false\n' "$root" >"$here/pyvenv.cfg"
emulated "$here/bin/python" "$root/usr/bin/python3.11"
python=$here/bin/python
"$work/wheels/tools/bin/pip" install -q --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
  --platform manylinux2014_aarch64 --implementation cp --python-version 3.11 --only-binary=:all: \
  --target "$here/lib/python3.11/site-packages" \
  "$(ls "$work"/wheels/dynq-*-cp310-abi3-manylinux_2_28_aarch64.whl)[test-core]" pytest-xdist
mv "$here/lib/python3.11/site-packages/dynq/bin/dynq-bench" "$here/bin"
emulated "$here/lib/python3.11/site-packages/dynq/bin/dynq-bench" "$here/bin/dynq-bench"
# With its kernels for SVE, which it takes here, NumPy's BLAS leaves floating-point exceptions behind, and NumPy warns.
export OPENBLAS_CORETYPE=ARMV8

# This CPU has everything, so every instruction set of the processor must have been built and be able to run.
expected=$({ sed -nE 's/^DYNQ_ISA\(([a-z0-9_]+), *AARCH64,.*/\1/p' native/src/isa.def; echo scalar; } | xargs)
"$python" -m dynq info --json >"$here/info.json"
"$python" - "$here/info.json" "$expected" <<'PY'
import json
import sys

facts, expected = json.load(open(sys.argv[1])), sys.argv[2].split()
assert facts["architecture"] == "aarch64", facts
can_run = [name for name, why in facts["isas"].items() if why in ("selected", "supported")]
assert can_run == expected and facts["isa"] == expected[0], facts["isas"]
print("AArch64:", *can_run)
PY

# A file that was made on x86-64 runs here, with the bits that it gives there.
"$work/wheels/venv/bin/python" - "$here" <<'PY'
import sys

import numpy as np

import dynq

rng = np.random.default_rng(0)
graph = dynq.Graph()
x = graph.input("x", ("batch", 64))
hidden = graph.linear(x, rng.standard_normal((96, 64), np.float32), activation="gelu")
attended = graph.softmax(graph.linear(hidden, rng.standard_normal((40, 96), np.float32)))
model = graph.build({"y": attended}, default="int8")
rows = rng.standard_normal((9, 64), np.float32)
model.save(f"{sys.argv[1]}/x86.dynq")
np.savez(f"{sys.argv[1]}/x86.npz", rows=rows, y=model(rows))
PY
"$python" - "$here" <<'PY'
import platform
import sys

import numpy as np

import dynq

x86 = np.load(f"{sys.argv[1]}/x86.npz")
model = dynq.load(f"{sys.argv[1]}/x86.dynq")
for isa in ("scalar", dynq.isa.selected()):
    dynq.isa.select(isa)
    np.testing.assert_array_equal(model(x86["rows"]), x86["y"])
print("a file of x86-64 gives its bits on", platform.machine())
PY

# The commands, each once.
"$python" -m dynq bench isa --quick --kernel gemm_tile --level L1 --json >/dev/null
"$python" -m dynq bench linear --quick --shape 8x64x64 --threads 1 --json >/dev/null
"$python" -m dynq demo --json >/dev/null

best=${expected%% *} # runs all sentences; the others two
not_here+=("tests/python/cli/test_demo.py::test_the_sentence_encoder_keeps_its_embeddings[$best]")
"$python" -m pytest -q -p no:cacheprovider --collect-only \
  "${files_not_here[@]/#/--ignore=}" tests/python | grep '::' >"$here/collected"
"$python" -m pytest -q -p no:cacheprovider -n 2 --dist worksteal --hypothesis-profile=emulated \
  --junitxml="$here/tests.xml" \
  "${files_not_here[@]/#/--ignore=}" "${not_here[@]/#/--deselect=}" tests/python >"$here/pytest.log" ||
  { cat "$here/pytest.log"; exit 1; }
tail -1 "$here/pytest.log"
"$python" - "$here/tests.xml" "$here/collected" "${files_not_here[@]}" "${not_here[@]}" <<'PY'
import sys
from pathlib import Path
from xml.etree import ElementTree

cases = list(ElementTree.parse(sys.argv[1]).iter("testcase"))
collected = Path(sys.argv[2]).read_text().splitlines()
left_out = [name for name in sys.argv[3:] if "::" in name]
left_out_files = {name.split("::")[0] for name in sys.argv[3:]}
passed = {f"{c.get('classname').replace('.', '/')}.py::{c.get('name')}" for c in cases if len(c) == 0}
missing = set(collected) - passed
assert missing == set(left_out), f"did not run, or do not exist: {sorted(missing ^ set(left_out))}"
files = set(map(str, Path("tests/python").rglob("test_*.py")))
passed_files = {name.split("::")[0] for name in passed}
assert passed_files | left_out_files == files, files ^ passed_files
PY
