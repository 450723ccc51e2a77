#!/usr/bin/env bash
# Cross-builds the C checks for 64-bit ARM and runs them under QEMU's user emulation, which shows programs the HWCAPs of
# the CPU that it plays: so dispatch is tested as it is. Skipping is failing here, too.
set -euo pipefail
work=$1
if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64-static >/dev/null; then
  apt-get update -q
  apt-get install -q -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
fi
cmake -S . -B "$work/aarch64" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDYNQ_WERROR=ON -DDYNQ_BUILD_TESTS=ON \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
  >"$work/aarch64.log"
cmake --build "$work/aarch64" >>"$work/aarch64.log" || { cat "$work/aarch64.log"; exit 1; }

on() { # CPU, check, arguments
  local cpu=$1 check=$2
  shift 2
  echo "-- $cpu: $check"
  qemu-aarch64-static -cpu "$cpu" -L /usr/aarch64-linux-gnu "$work/aarch64/tests/native/$check" "$@"
}
on cortex-a76 check_kernels --isa neon_dotprod --expect neon_dotprod
on cortex-a72 check_kernels --isa scalar --expect scalar
on max check_math
on max check_api
