#!/usr/bin/env bash
# Installs Ray, Dask, Spark, datasets, JAX and sentence_transformers beside dynq in a virtual environment of its own, and
# runs tests/engines, with two workers of each engine. They are over a gigabyte installed, and Spark needs Java, so this
# is run by hand and not by the gate.
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
  '.[ray,dask,spark,datasets,jax,transformers]' 'pytest>=8' sentence-transformers fastapi httpx
PATH=$work/engines/bin:$PATH "$work/engines/bin/pytest" -q -W default tests/engines
