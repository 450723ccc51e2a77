#!/usr/bin/env bash
# The machine code of the library, for x86-64 and AArch64: no instruction outside its list, no spill or copy in a hot
# loop, the predictions of docs/performance.md. One compiler and one LLVM make the figures: GCC 12 and LLVM 19.
set -euo pipefail
work=$1
packages=()
command -v gcc-12 >/dev/null || packages+=(gcc-12 libc6-dev)
command -v aarch64-linux-gnu-gcc-12 >/dev/null || packages+=(gcc-12-aarch64-linux-gnu libc6-dev-arm64-cross)
command -v llvm-mca-19 >/dev/null || packages+=(llvm-19)
if [ ${#packages[@]} -gt 0 ]; then
  apt-get update -q
  apt-get install -q -y --no-install-recommends "${packages[@]}"
fi
objects() { # name, compiler, further CMake arguments: the library's objects, with debugging information
  cmake -S . -B "$work/$1" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS=-g "-DCMAKE_C_COMPILER=$2" "${@:3}" \
    >"$work/$1.log"
  cmake --build "$work/$1" --target dynq_objects >>"$work/$1.log" || { cat "$work/$1.log"; exit 1; }
}
objects assembly_x86 gcc-12
objects assembly_arm aarch64-linux-gnu-gcc-12 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64

export PYTHONDONTWRITEBYTECODE=1
python3 -m unittest discover -s tests/assembly
python3 tests/assembly/instructions.py "$work/assembly_x86" "$work/assembly_arm"
python3 tests/assembly/prediction.py --check "$work/assembly_x86" "$work/assembly_arm"
