#!/usr/bin/env bash
# Builds the wheel, installs it as users do (uv tool) into a folder that is removed again, and runs what it brings.
# Usage: scripts/try_wheel.sh [PYTHON-VERSION]     uv is the one on PATH, else .venv's; WHEEL=FILE: this one, not built;
# TRAIN=1: with the extra that trains, and a short run. It gets the newest versions that the wheel allows, not those locked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${1:-3.11}"
uv="$(command -v uv || echo .venv/bin/uv)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
if [[ -z "${WHEEL:-}" ]]; then
    "$uv" build --quiet --wheel --out-dir "$folder/dist"
    WHEEL="$(echo "$folder"/dist/*.whl)"
fi
UV_TOOL_DIR="$folder/tools" UV_TOOL_BIN_DIR="$folder/bin" "$uv" tool install --quiet --python "$python" "$WHEEL${TRAIN:+[train]}"
cd "$folder" # where no source is that could be imported instead
bin/tspctl version
bin/tspctl --help >help.txt
for shell in bash zsh fish; do bin/tspctl completion "$shell" >"completion.$shell"; done
bin/tspctl doctor --backend local --store "$folder/runs"
if [[ -n "${TRAIN:-}" ]]; then
    export XDG_STATE_HOME="$folder/state"
    bin/tspctl data demo data --train-videos 4 --valid-videos 2 >demo.txt
    bin/tspctl submit --backend local --dataset demo --data data --method tsp --gpus 2 --epochs 1 --store runs --name try --follow
    bin/tspctl results try --store runs
fi
