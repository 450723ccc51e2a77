#!/usr/bin/env bash
# Runs the C checks of $1/plain and the wheel of $1/wheels on x86-64 CPUs of 2008 (SSE4.2) and 2013 (AVX2) that QEMU
# plays: an instruction above what dispatch chose is an illegal instruction there.
set -euo pipefail
work=$1
if ! command -v qemu-x86_64-static >/dev/null; then
  apt-get update -q
  apt-get install -q -y --no-install-recommends qemu-user-static
fi

# An object file with its own compiler flags gives the linker one name alone, its table: of an inline function that two
# objects had, the linker would keep one, with whichever instructions that has.
defines_alone() { # nm, object, name
  local symbols
  symbols=$("$1" --extern-only --defined-only --format=just-symbols "$2" | xargs)
  if [ "$symbols" != "$3" ]; then
    echo "$2 defines '$symbols'; expected $3 alone" >&2
    exit 1
  fi
}
only_tables() { # nm, folder of a build
  local object name checked=0
  for object in "$2"/CMakeFiles/dynq_objects.dir/native/src/kernels/*.o; do
    defines_alone "$1" "$object" "dynq_isa_$(basename "$object" .c.o)"
    checked=$((checked + 1))
  done
  for object in "$2"/bench/CMakeFiles/dynq_bench_loops_*.dir/loops_isa.c.o; do
    name=$(basename "$(dirname "$object")" .dir)
    [ ! -e "$object" ] || defines_alone "$1" "$object" "bench_loops_${name#dynq_bench_loops_}"
  done
  echo "$checked kernel objects of $(basename "$2") define their table alone"
}
only_tables nm "$work/plain"
only_tables aarch64-linux-gnu-nm "$work/aarch64"

# Prints what it computed as one number; the bits are the same on every CPU.
cat >"$work/old_x86.py" <<'PY'
import hashlib
import sys
import numpy as np
import dynq

assert dynq.isa.supported() == sys.argv[1:], dynq.isa.supported()
assert dynq.isa.selected() == sys.argv[1]
rng = np.random.default_rng(1)
x, w, b = (rng.standard_normal(shape, dtype="f") for shape in ((65, 150), (97, 150), 97))
digests = set()
for isa in dynq.isa.supported():
    with dynq.isa.use(isa):
        dynq.set_num_threads(2)
        qw, (q, scale, zero_point) = dynq.quantize_weight(w), dynq.quantize(x)
        outputs = [dynq.linear(x, qw, b, activation=a) for a in (None, "relu", "gelu", "silu", "tanh", "sigmoid")]
        outputs += [q, dynq.dequantize(q, scale, zero_point), dynq.gemm_s32(q, zero_point, qw), dynq.matmul(x, w.T)]
        digests.add(hashlib.sha256(b"".join(a.tobytes() for a in outputs)).hexdigest())
(digest,) = digests
print(digest)
PY
python=$work/wheels/venv/bin/python
read -ra here < <("$python" -c 'import dynq; print(*dynq.isa.supported())')
expected=$("$python" "$work/old_x86.py" "${here[@]}")

on() { # CPU, the instruction sets that can run there, best first
  local cpu=$1 can_run=$2 best=${2%% *} found digest
  # The machine's choice of a kernel for NumPy's BLAS (OPENBLAS_CORETYPE) is not one for that CPU.
  local qemu=(env -u OPENBLAS_CORETYPE qemu-x86_64-static -cpu "$cpu") checks=$work/plain/tests/native/check_kernels
  echo "-- $cpu"
  found=$("${qemu[@]}" "$checks" --list | sed -n '/can run/s/ .*//p' | xargs)
  if [ "$found" != "$can_run" ]; then
    echo "on $cpu '$found' can run; expected '$can_run'" >&2
    exit 1
  fi
  "${qemu[@]}" "$checks" --isa "$best" --kernels --readable-guards
  # shellcheck disable=SC2086
  digest=$("${qemu[@]}" "$python" "$work/old_x86.py" $can_run)
  if [ "$digest" != "$expected" ]; then
    echo "the wheel computes $digest on $cpu, $expected here" >&2
    exit 1
  fi
  echo "the wheel computes what it does here"
}
# QEMU 7.2 says which features of the CPU it leaves out, none that dynq uses.
{
  on Nehalem "scalar"
  on Haswell "avx2 scalar"
} 2> >(grep -v "TCG doesn't support requested feature" >&2)
