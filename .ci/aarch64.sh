#!/usr/bin/env bash
# Cross-builds the C checks for 64-bit ARM and runs them under QEMU's user emulation, which shows programs the HWCAPs
# and the vector length of the CPU that it plays: so dispatch is tested as it is. Skipping is failing here, too.
set -euo pipefail
work=$1
if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64-static >/dev/null; then
  apt-get update -q
  apt-get install -q -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
fi
cmake -S . -B "$work/aarch64" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDYNQ_WERROR=ON -DDYNQ_BUILD_TESTS=ON \
  -DDYNQ_BUILD_BENCH=ON -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
  >"$work/aarch64.log"
cmake --build "$work/aarch64" >>"$work/aarch64.log" || { cat "$work/aarch64.log"; exit 1; }
# What a program sees: the instruction set that the library chooses, and the bytes of a vector (0 without SVE).
aarch64-linux-gnu-gcc -Inative/include -o "$work/aarch64/chosen" -x c - -x none "$work/aarch64/libdynq.a" -lm <<'EOF'
#include <dynq/dynq.h>
#include <stdio.h>
#include <sys/prctl.h>
int main(void) {
  const char *name = "";
  const int length = prctl(PR_SVE_GET_VL);
  const dynq_status status = dynq_isa_selected(&name);
  printf("%s %d\n", name, length < 0 ? 0 : length & PR_SVE_VL_LEN_MASK);
  return status != DYNQ_OK;
}
EOF

on() { # CPU, program of the build, arguments
  local cpu=$1 program=$2
  shift 2
  qemu-aarch64-static -cpu "$cpu" -L /usr/aarch64-linux-gnu "$work/aarch64/$program" "$@"
}
run() { # CPU, check, arguments; a failure is told with its output, and ends the run
  local output
  if output=$(on "$1" "tests/native/$2" "${@:3}" 2>&1); then
    echo "$* | $(tail -n 1 <<<"$output")"
  else
    echo "$* | FAILED"$'\n'"$output"
    return 1
  fi
}
export work
export -f on run

# The instruction set that each CPU must get, and the bytes of its vectors.
while read -r cpu isa length; do
  chosen=$(on "$cpu" chosen)
  echo "$cpu: $chosen"
  [ "$chosen" = "$isa $length" ] || { echo "$cpu: expected $isa and vectors of $length bytes"; exit 1; }
done <<'EOF'
cortex-a53 scalar 0
cortex-a57 scalar 0
cortex-a72 scalar 0
cortex-a76 neon_dotprod 0
neoverse-n1 neon_dotprod 0
a64fx sve 64
max,sve=off neon_i8mm 0
max,sve-default-vector-length=16 sve_i8mm 16
max,sve-default-vector-length=32 sve_i8mm 32
max,sve-default-vector-length=48 sve_i8mm 48
max,sve-default-vector-length=64 sve_i8mm 64
max,sve-default-vector-length=128 sve_i8mm 128
max,sve-default-vector-length=256 sve_i8mm 256
EOF

# Two at a time, the long ones first. Each instruction set runs all checks once; at the other vector lengths the tile,
# the one kernel that knows of them. xargs fails where one of them does.
xargs -P 2 -L 1 bash -c 'set -euo pipefail; run "$@"' run <<'EOF'
max,sve-default-vector-length=32 check_kernels --isa sve_i8mm --expect sve_i8mm
a64fx check_kernels --isa sve --expect sve
max,sve=off check_kernels --isa neon_i8mm --expect neon_i8mm
cortex-a76 check_kernels --isa neon_dotprod --expect neon_dotprod
cortex-a72 check_kernels --isa scalar --expect scalar
max,sve-default-vector-length=16 check_kernels --isa sve_i8mm --expect sve_i8mm --tile
max,sve-default-vector-length=48 check_kernels --isa sve_i8mm --expect sve_i8mm --tile
max,sve-default-vector-length=64 check_kernels --isa sve_i8mm --expect sve_i8mm --tile
max,sve-default-vector-length=128 check_kernels --isa sve_i8mm --expect sve_i8mm --tile
max,sve-default-vector-length=256 check_kernels --isa sve_i8mm --expect sve_i8mm --tile
max,sve-default-vector-length=16 check_kernels --isa sve --expect sve --tile
max,sve-default-vector-length=32 check_kernels --isa sve --expect sve --tile
max,sve-default-vector-length=48 check_kernels --isa sve --expect sve --tile
max,sve-default-vector-length=128 check_kernels --isa sve --expect sve --tile
max,sve-default-vector-length=256 check_kernels --isa sve --expect sve --tile
cortex-a53 check_kernels --isa scalar --expect scalar --tile
cortex-a57 check_kernels --isa scalar --expect scalar --tile
neoverse-n1 check_kernels --isa neon_dotprod --expect neon_dotprod --tile
max check_math
max check_ops
max check_api
max check_model
max ../fuzz/fuzz_model --seconds 20
max check_detection
max check_dispatch --without-children
max check_vectors tests/vectors --expect "sve_i8mm neon_i8mm sve neon_dotprod scalar"
EOF

# Figures under emulation mean nothing; that the program runs where it was crossed to does.
on max bench/dynq-bench isa --quick --level L1
for length in 16 48 256; do
  on "max,sve-default-vector-length=$length" bench/check_loops
done
