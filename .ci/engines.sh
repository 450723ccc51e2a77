#!/usr/bin/env bash
# Installs Ray, Dask, Spark, datasets, JAX and sentence_transformers beside dynq in a virtual environment of its own, and
# runs tests/engines, with two workers of each engine. Builds libdynq_ort.so for ONNX Runtime, and compares what it is
# built from with the header of ONNX Runtime that Debian has; and libdynq_torch.so, with a C++ program that uses it. All
# this is over a gigabyte installed, and Spark needs Java, so it is run by hand and not by the gate.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-$PWD/.ci/work}
if ! command -v java >/dev/null; then
  apt-get update -q
  apt-get install -q -y --no-install-recommends default-jre-headless
fi
rm -rf "$work/engines"
python3 -m venv "$work/engines"
"$work/engines/bin/pip" install -q "--config-settings=build-dir=$work/engines/build" \
  '.[ray,dask,spark,datasets,jax,transformers,onnx]' 'pytest>=8' sentence-transformers fastapi httpx onnxruntime

.ci/unpack trixie amd64 "$work/roots/trixie-amd64" libonnxruntime-dev
cc -std=c11 -Wall -Wextra -Werror -fsyntax-only "-I$work/roots/trixie-amd64/usr/include/onnxruntime" tests/engines/ort_api.c
"$work/engines/bin/pip" install -q cmake ninja
export PATH=$work/engines/bin:$PATH
torch=$(python -c 'import torch; print(torch.__path__[0])')
build() { # folder, source, further arguments of CMake
  cmake -S "$2" -B "$work/$1" -G Ninja "${@:3}" >"$work/$1.log"
  cmake --build "$work/$1" >>"$work/$1.log" || { cat "$work/$1.log"; exit 1; }
}
build programs . "-DDYNQ_TORCH=$torch"
cmake --install "$work/programs" --prefix "$work/prefix" --component library >/dev/null
libraries=$(dirname "$(find "$work/prefix" -name libdynq_ort.so)")
build torch_example examples/torch "-DCMAKE_PREFIX_PATH=$work/prefix;$torch/share/cmake" "-DCMAKE_LIBRARY_PATH=$libraries"
export DYNQ_ORT_LIBRARY=$libraries/libdynq_ort.so DYNQ_TORCH_LIBRARY=$libraries/libdynq_torch.so
export DYNQ_RUN_PACKAGE=$work/torch_example/run_package
pytest -q -W default tests/engines
