#!/usr/bin/env bash
# Runs the C checks of $1/plain and the wheel of $1/wheels on x86-64 CPUs of 2008 (SSE4.2) and 2013 (AVX2) that QEMU
# plays: an instruction above what dispatch chose is an illegal instruction there.
set -euo pipefail
work=$1
if ! command -v qemu-x86_64-static >/dev/null; then
  apt-get update -q
  apt-get install -q -y --no-install-recommends qemu-user-static
fi

# An object file with its own compiler flags gives the linker nothing but its table of kernels: of an inline function
# that two objects had, the linker would keep one, with whichever instructions that has.
only_its_table() { # nm, folder of a build
  local object name symbols checked=0
  for object in "$2"/CMakeFiles/dynq_objects.dir/native/src/kernels/*.o; do
    name=$(basename "$object" .c.o)
    symbols=$("$1" --extern-only --defined-only --format=just-symbols "$object" | xargs)
    if [ "$symbols" != "dynq_isa_$name" ]; then
      echo "$object defines '$symbols'; expected dynq_isa_$name alone" >&2
      exit 1
    fi
    checked=$((checked + 1))
  done
  echo "$checked kernel objects define their table alone"
}
only_its_table nm "$work/plain"
only_its_table aarch64-linux-gnu-nm "$work/aarch64"

on() { # CPU, the instruction sets that can run there, best first
  local cpu=$1 can_run=$2 best=${2%% *} check found
  local qemu=(qemu-x86_64-static -cpu "$cpu")
  found=$("${qemu[@]}" "$work/plain/tests/native/check_kernels" --list | sed -n '/can run/s/ .*//p' | xargs)
  if [ "$found" != "$can_run" ]; then
    echo "on $cpu '$found' can run; expected '$can_run'" >&2
    exit 1
  fi
  for check in "check_kernels --isa $best" check_api; do
    echo "-- $cpu: $check"
    # shellcheck disable=SC2086
    "${qemu[@]}" "$work/plain/tests/native/"$check >"$work/old_x86.log" || { cat "$work/old_x86.log"; exit 1; }
    tail -1 "$work/old_x86.log"
  done
  "${qemu[@]}" "$work/wheels/venv/bin/python" - "$best" <<'PY'
import sys
import numpy as np
import dynq

assert dynq.isa.selected() == sys.argv[1], dynq.isa.selected()
x = np.linspace(-3, 3, 40 * 70, dtype="f").reshape(40, 70)
for isa in dynq.isa.supported():
    with dynq.isa.use(isa):
        y = dynq.linear(x, dynq.quantize_weight(x[:33]), activation="gelu")
        assert np.isfinite(y).all() and dynq.dequantize(*dynq.quantize(x)).shape == x.shape
        assert dynq.matmul(x, x.T).shape == (40, 40)
print("the wheel runs with", *dynq.isa.supported())
PY
}
on Nehalem "scalar"
on Haswell "avx2 scalar"
