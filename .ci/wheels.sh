#!/usr/bin/env bash
# Builds the source distribution, and from it the wheels of x86-64 and AArch64 (crossed), as cibuildwheel does by the
# configuration in pyproject.toml: manylinux_2_28. In place of its images, the wheels are compiled against the C library
# of Debian 11, whose symbols are old enough; auditwheel says whether they are. What is in each file is compared with
# what git has. The wheels are left in $1/wheels.
set -euo pipefail
work=$1
here=$work/wheels
roots=$work/roots
glibc=28 policy=manylinux_2_28

if ! command -v aarch64-linux-gnu-gcc >/dev/null; then
  apt-get update -q >/dev/null
  apt-get install -q -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null
fi
.ci/unpack bullseye amd64 "$roots/bullseye-amd64" gcc-10 libc6-dev
.ci/unpack bullseye arm64 "$roots/bullseye-arm64" libc6-dev
.ci/unpack bookworm arm64 "$roots/bookworm-arm64" python3.11 libpython3.11-dev libstdc++6
rm -rf "$here"
python3 -m venv "$here/tools"
"$here/tools/bin/pip" install -q build scikit-build-core cffi cmake ninja auditwheel wheel cibuildwheel
export PATH=$here/tools/bin:$PATH

printed=$(cibuildwheel --platform linux --print-build-identifiers 2>&1 | grep '^cp' | sort | xargs)
if [ "$printed" != "cp310-manylinux_aarch64 cp310-manylinux_x86_64" ]; then
  echo "cibuildwheel would build '$printed'" >&2
  exit 1
fi

same() { # what, file with the expected names, file with those found
  if ! diff -u "$2" "$3"; then
    echo "$1 does not hold what it should: - is missing, + is too much" >&2
    exit 1
  fi
}

python -m build -q --sdist --no-isolation --outdir "$here" . >"$here/sdist.log" 2>&1 ||
  { cat "$here/sdist.log"; exit 1; }
sdist=$(ls "$here"/dynq-*.tar.gz)
version=$(basename "$sdist" .tar.gz)
{
  git ls-files -- . ':!.ci' ':!bench/history'
  echo PKG-INFO
} | sort >"$here/sdist.expected"
tar -tzf "$sdist" | sed -n "s|^$version/||p" | sort >"$here/sdist.found"
same "the source distribution" "$here/sdist.expected" "$here/sdist.found"

build_wheel() { # architecture, CMake's arguments
  local architecture=$1 built wheel tag
  CMAKE_ARGS=$2 _PYTHON_HOST_PLATFORM=linux-$architecture \
    pip wheel -q --no-cache-dir --no-build-isolation --no-deps -w "$here/built" "$sdist"
  built=$here/built/$version-cp310-abi3-linux_$architecture.whl
  if [ ! -e "$built" ]; then
    echo "expected $(basename "$built"), got $(ls "$here/built")" >&2
    exit 1
  fi
  # The oldest tag that the symbols and libraries which it asks for allow.
  tag=$(auditwheel show "$built" 2>/dev/null | xargs | sed -nE 's/.* platform tag: ([a-z0-9_]+)\..*/\1/p')
  if ! [[ $tag =~ ^manylinux_2_([0-9]+)_$architecture$ ]] || ((BASH_REMATCH[1] > glibc)); then
    auditwheel show "$built"
    echo "$(basename "$built") is no $policy wheel" >&2
    exit 1
  fi
  wheel tags --remove --platform-tag "${policy}_$architecture" "$built" >/dev/null
  mv "$here/built/$version-cp310-abi3-${policy}_$architecture.whl" "$here"
  wheel=$here/$version-cp310-abi3-${policy}_$architecture.whl
  {
    git ls-files -- python/dynq | sed 's|^python/||'
    printf 'dynq/%s\n' _native.abi3.so bin/dynq-bench include/dynq/dynq.h vectors/cases.txt vectors/data.bin
    printf "$version.dist-info/%s\n" METADATA RECORD WHEEL entry_points.txt licenses/LICENSE
  } | sort >"$here/$architecture.expected"
  python -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' "$wheel" |
    sort >"$here/$architecture.found"
  same "$(basename "$wheel")" "$here/$architecture.expected" "$here/$architecture.found"
  unzip_text "$wheel" "$version.dist-info/WHEEL" | grep -x "Tag: cp310-abi3-${policy}_$architecture" >/dev/null
  unzip_text "$wheel" "$version.dist-info/WHEEL" | grep -x "Root-Is-Purelib: false" >/dev/null
  echo "$(basename "$wheel"): $(wc -l <"$here/$architecture.found") files, $(stat -c %s "$wheel") bytes, fit for $tag"
}
unzip_text() { python -c 'import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]).decode())' "$@"; }

# root, triplet, folder with Python's headers: the C library there goes before the compiler's own; its programs (an ar
# that wants libraries of its own suite) are not used.
against() {
  local first="-B$1/usr/lib/$2 -L$1/usr/lib/$2 -L$1/lib/$2"
  echo "-DCMAKE_SYSROOT=$1 -DCMAKE_FIND_ROOT_PATH_MODE_PROGRAM=NEVER '-DCMAKE_MODULE_LINKER_FLAGS=$first' '-DCMAKE_EXE_LINKER_FLAGS=$first'
    '-DCMAKE_C_FLAGS=-idirafter $3'"
}
build_wheel x86_64 "$(against "$roots/bullseye-amd64" x86_64-linux-gnu /usr/include)"
python_headers=$roots/bookworm-arm64/usr/include
build_wheel aarch64 "-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc
  -DPython_INCLUDE_DIR=$python_headers/python3.11
  $(against "$roots/bullseye-arm64" aarch64-linux-gnu "$python_headers")"

# The x86-64 one serves a stranger. (The other one: aarch64_python.sh.)
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q "$here/$version-cp310-abi3-${policy}_x86_64.whl"
cd "$here"
venv/bin/dynq info
venv/bin/python - <<'PY'
import numpy as np
import dynq

rng = np.random.default_rng(0)
w, x = rng.standard_normal((64, 96), dtype="f"), rng.standard_normal((8, 96), dtype="f")
difference = np.abs(dynq.linear(x, dynq.quantize_weight(w)) - x @ w.T).max()
assert 0 < difference < 0.5, difference
PY
