#!/usr/bin/env bash
# Runs the machine code of amx and of avxvnni where the CPU lacks it, around the trap of tests/emulated, and proves by
# the trap's counts that it ran. An instruction that the CPU has runs as it is. Skipping is failing here, too.
set -euo pipefail
work=$1
if ! command -v qemu-x86_64-static >/dev/null; then
  apt-get update -q && apt-get install -q -y --no-install-recommends qemu-user-static
fi
cmake -S . -B "$work/emulated" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDYNQ_WERROR=ON -DDYNQ_BUILD_TESTS=ON \
  -DDYNQ_ASSUME_CPU=ON >"$work/emulated.log"
cmake --build "$work/emulated" >>"$work/emulated.log" || { cat "$work/emulated.log"; exit 1; }
native=$work/emulated/tests/native
emulated=$work/emulated/tests/emulated
trap=$emulated/libdynq_trap.so
report=$work/emulated.report

cpu_has() { grep -qw "$1" /proc/cpuinfo; }
# Instruction, least count: fails where the runs since the last call emulated fewer of them. The report begins anew.
emulated_at_least() {
  local count
  count=$(awk -v name="$1" '$2 == name { sum += $3 } END { print sum + 0 }' "$report")
  echo "emulated: $count $1"
  rm -f "$report"
  if ((count < $2)); then
    echo "fewer than the $2 that prove that it ran" >&2
    exit 1
  fi
}
tiles_ran() { # least count
  if cpu_has amx_int8; then
    echo "amx: the CPU has it"
  else
    emulated_at_least tdpbusd "$1"
  fi
}
as_amx() { # command: with the tiles assumed, and amx in use
  env LD_PRELOAD="$trap" DYNQ_TRAP_REPORT="$report" DYNQ_ASSUME_CPU="amx_tile amx_int8" DYNQ_ISA=amx "$@"
}
# A CPU with AVX2 and no more. (QEMU 7.2 reads whole vectors where vmaskmov should not, so of the kernels only the tile,
# which has none, can run between unreadable pages.)
on_haswell() {
  qemu-x86_64-static -cpu Haswell -E LD_PRELOAD="$trap" -E DYNQ_TRAP_REPORT="$report" -E DYNQ_ASSUME_CPU=avx_vnni "$@" \
    2> >(grep -v "TCG doesn't support requested feature" >&2)
}
rm -f "$report"

echo "-- the emulator"
"$emulated/check_trap" --expect-native
LD_PRELOAD=$trap "$emulated/check_trapped"
on_haswell "$emulated/check_trap"
on_haswell "$emulated/check_trapped" --only-vectors
emulated_at_least vpdpbusd 2000

echo "-- avxvnni"
on_haswell "$native/check_kernels" --isa avxvnni --expect avxvnni --tile --quick
emulated_at_least vpdpbusd 10000
if ! cpu_has avx_vnni; then # else .ci/run has tested all of it
  env LD_PRELOAD="$trap" DYNQ_TRAP_REPORT="$report" DYNQ_ASSUME_CPU=avx_vnni \
    "$native/check_kernels" --isa avxvnni --expect avxvnni --quick
  emulated_at_least vpdpbusd 10000
fi

echo "-- amx"
as_amx "$native/check_kernels" --isa amx --expect amx
tiles_ran 10000
as_amx "$emulated/check_amx_released"
tiles_ran 100
as_amx "$native/check_vectors" tests/vectors --isa amx --expect amx
tiles_ran 100
as_amx "$native/check_dispatch"
as_amx "$native/check_api"
tiles_ran 10000

echo "-- amx, from Python"
python3 -m venv "$work/emulated-python"
"$work/emulated-python/bin/pip" install -q . 'pytest>=8' 'hypothesis>=6.100' 'ml_dtypes>=0.4' \
  --config-settings=build-dir="$work/emulated-wheel" --config-settings=cmake.define.DYNQ_ASSUME_CPU=ON
as_amx "$work/emulated-python/bin/python" -c 'import dynq; assert dynq.isa.selected() == "amx", dynq.isa.selected()'
# The other instruction sets' parameters have run without this; the tests of threads take as long as all the rest.
as_amx CI=1 "$work/emulated-python/bin/python" -m pytest -q -p no:cacheprovider -k "not avx and not scalar" \
  --deselect tests/python/test_invariance.py::test_the_number_of_threads_does_not_matter \
  tests/python/test_numerics.py tests/python/test_invariance.py
tiles_ran 10000
