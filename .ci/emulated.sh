#!/usr/bin/env bash
# Runs the machine code of amx, avx512vnni and avxvnni where the CPU lacks it, around the trap of tests/emulated, and
# proves by the trap's counts that it ran. An instruction that the CPU has runs as it is. AVX-512 itself the CPU must
# have. Skipping is failing here, too.
set -euo pipefail
work=$1
if ! command -v qemu-x86_64-static >/dev/null; then
  apt-get update -q && apt-get install -q -y --no-install-recommends qemu-user-static
fi
# The package and, in the same build, the checks.
python3 -m venv "$work/emulated-python"
"$work/emulated-python/bin/pip" install -q . 'pytest>=8' 'hypothesis>=6.100' 'ml_dtypes>=0.4' \
  --config-settings=build-dir="$work/emulated" \
  --config-settings=build.targets="_native;dynq_trap;check_trap;check_trapped;check_amx_released;check_kernels;check_vectors;check_dispatch;check_api" \
  --config-settings=cmake.define.DYNQ_{BUILD_TESTS,WERROR,ASSUME_CPU}=ON \
  --config-settings=cmake.define.DYNQ_BUILD_BENCH=OFF
native=$work/emulated/tests/native
emulated=$work/emulated/tests/emulated
trap=$emulated/libdynq_trap.so
report=$work/emulated.report

cpu_has() { grep -qw "$1" /proc/cpuinfo; }
# Instruction, least count: fails where the last run emulated fewer of them.
emulated_at_least() {
  local count
  count=$(awk -v name="$1" '$2 == name { sum += $3 } END { print sum + 0 }' "$report")
  echo "emulated: $count $1"
  if ((count < $2)); then
    echo "fewer than the $2 that prove that it ran" >&2
    exit 1
  fi
}
ran() { # CPU feature, instruction, least count
  if cpu_has "$1"; then
    echo "$2: the CPU has it"
  else
    emulated_at_least "$2" "$3"
  fi
}
# Each run begins the report anew.
on_this_cpu() { # features to assume, command
  rm -f "$report"
  env LD_PRELOAD="$trap" DYNQ_TRAP_REPORT="$report" DYNQ_ASSUME_CPU="$1" "${@:2}"
}
as_amx() { on_this_cpu "amx_tile amx_int8 avx512_vnni" env DYNQ_ISA=amx "$@"; }
# A CPU with AVX2 and no more. (QEMU 7.2 reads whole vectors where vmaskmov should not, so of the kernels only the tile,
# which has none, can run between unreadable pages.)
on_haswell() {
  rm -f "$report"
  qemu-x86_64-static -cpu Haswell -E LD_PRELOAD="$trap" -E DYNQ_TRAP_REPORT="$report" -E DYNQ_ASSUME_CPU=avx_vnni "$@" \
    2> >(grep -v "TCG doesn't support requested feature" >&2)
}

echo "-- the emulator"
compare=()
if cpu_has avx512_vnni; then
  compare=(--expect-native)
fi
"$emulated/check_trap" "${compare[@]}"
LD_PRELOAD=$trap "$emulated/check_trapped"
on_haswell "$emulated/check_trap"
on_haswell "$emulated/check_trapped" --only-vectors
emulated_at_least vpdpbusd 1000

# What the CPU has of these two, .ci/run has tested.
echo "-- avxvnni"
on_haswell "$native/check_kernels" --isa avxvnni --expect avxvnni --tile --quick
emulated_at_least vpdpbusd 10000
if ! cpu_has avx_vnni; then
  on_this_cpu avx_vnni "$native/check_kernels" --isa avxvnni --expect avxvnni --quick
  emulated_at_least vpdpbusd 10000
fi
echo "-- avx512vnni"
also=
if ! cpu_has avx512_vnni; then
  on_this_cpu avx512_vnni "$native/check_kernels" --isa avx512vnni --expect avx512vnni --quick
  emulated_at_least evex_vpdpbusd 100000
  on_this_cpu avx512_vnni "$native/check_vectors" tests/vectors --isa avx512vnni --expect avx512vnni
  emulated_at_least evex_vpdpbusd 10000
  also="or avx512vnni" # from Python, too
fi

echo "-- amx"
as_amx "$native/check_kernels" --isa amx --expect amx
ran amx_int8 tdpbusd 10000
ran avx512_vnni evex_vpdpbusd 1000
as_amx "$emulated/check_amx_released"
ran amx_int8 tdpbusd 100
as_amx "$native/check_vectors" tests/vectors --isa amx --expect amx
ran amx_int8 tdpbusd 100
as_amx "$native/check_dispatch"
as_amx "$native/check_api"
ran amx_int8 tdpbusd 10000

echo "-- amx, from Python"
as_amx "$work/emulated-python/bin/python" -c 'import dynq; assert dynq.isa.selected() == "amx", dynq.isa.selected()'
# The other instruction sets' parameters have run without this; the tests of threads take as long as all the rest.
as_amx CI=1 "$work/emulated-python/bin/python" -m pytest -q -p no:cacheprovider -k "not avx and not scalar $also" \
  --deselect tests/python/core/test_invariance.py::test_the_number_of_threads_does_not_matter \
  tests/python/core/test_numerics.py tests/python/core/test_invariance.py
ran amx_int8 tdpbusd 10000
