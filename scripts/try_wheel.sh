#!/usr/bin/env bash
# Builds the wheel, installs it as users do (uv tool) into a folder that is removed again, and runs what it brings.
# Usage: scripts/try_wheel.sh [PYTHON-VERSION]     uv is the one on PATH, else .venv's; WHEEL=FILE: this one, not built
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
UV_TOOL_DIR="$folder/tools" UV_TOOL_BIN_DIR="$folder/bin" "$uv" tool install --quiet --python "$python" "$WHEEL"
cd "$folder" # where no source is that could be imported instead
bin/tspctl version
bin/tspctl --help >help.txt
for shell in bash zsh fish; do bin/tspctl completion "$shell" >"completion.$shell"; done
bin/tspctl doctor --backend local --store "$folder/runs"
