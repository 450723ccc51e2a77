#!/usr/bin/env bash
# Installs every runtime that `dynq bench peers` knows, beside dynq, in a virtual environment of its own, and runs the
# tests of these benchmarks there: one that is missing fails. They are 1.8 GB installed, so the `test` extra has none,
# and this is run by hand (docs/benchmarks.md): it takes some five minutes on two busy cores.
set -euo pipefail
work=$1
rm -rf "$work/peers"
python3 -m venv "$work/peers"
# Built in a folder of its own: another `pip install .` may run meanwhile.
"$work/peers/bin/pip" install -q "--config-settings=build-dir=$work/peers/build" '.[peers,test]'
export DYNQ_EXPECTED_PEERS="dynq,dynq out,numpy float32,onnxruntime float32,onnxruntime int8,onnxruntime int8 channel,torch float32,torch int8,openvino float32,openvino int8,openvino int8 row,litert float32,litert int8"
export DYNQ_EXPECTED_RUNTIMES="dynq,dynq.torch,onnxruntime float32,onnxruntime int8,onnxruntime int8 channel,torch float32,torch int8,openvino float32,openvino int8,ctranslate2 int8,litert float32,litert int8"
"$work/peers/bin/pytest" -q tests/python/bench/test_{linear,models,conv}.py
