#!/usr/bin/env bash
# Installs Ray, Dask, Spark, datasets, JAX and sentence_transformers beside dynq in a virtual environment of its own, and
# runs tests/engines, with two workers of each engine. Builds libdynq_ort.so for ONNX Runtime, and compares what it is
# built from with the header of ONNX Runtime that Debian has. All this is over a gigabyte installed, and Spark needs Java,
# so it is run by hand and not by the gate.
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
"$work/engines/bin/cmake" -S . -B "$work/ort" -G Ninja "-DCMAKE_MAKE_PROGRAM=$work/engines/bin/ninja" >"$work/ort.log"
"$work/engines/bin/cmake" --build "$work/ort" --target dynq_ort >>"$work/ort.log" || { cat "$work/ort.log"; exit 1; }
export DYNQ_ORT_LIBRARY=$work/ort/libdynq_ort.so
PATH=$work/engines/bin:$PATH "$work/engines/bin/pytest" -q -W default tests/engines
