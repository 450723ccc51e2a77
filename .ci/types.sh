#!/usr/bin/env bash
# Installs mypy and pyright in a virtual environment of its own, and has both read tests/types: each choice of dynq that
# is spelt wrong there has to be refused. pyright brings Node, some 100 MB, so this is run by hand; the gate has mypy.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-$PWD/.ci/work}
rm -rf "$work/types"
python3 -m venv "$work/types"
"$work/types/bin/pip" install -q "$(.ci/pin mypy)" 'pyright[nodejs]' numpy click rich typing_extensions
"$work/types/bin/mypy"
"$work/types/bin/pyright" --pythonpath "$work/types/bin/python" -p tests/types
