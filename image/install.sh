#!/bin/sh
# Installs what requirements.lock pins into a virtual environment: install.sh FOLDER
# With TORCH_INDEX, torch and what hangs on it come from there (TORCH_VERSIONS, by default as locked), without hashes.
set -eu
venv="$1"
uv=/opt/uv/bin/uv

if [ -z "${TORCH_INDEX:-}" ]; then
    exec "$uv" pip install --quiet --python "$venv" --require-hashes --no-deps -r requirements.lock
fi

awk '/^[a-z]/ { keep = $0 !~ /^(torch|torchvision|triton|nvidia-|cuda-)/ } keep' requirements.lock >rest.lock
"$uv" pip install --quiet --python "$venv" --require-hashes --no-deps -r rest.lock
versions="${TORCH_VERSIONS:-$(awk -F'[ ;]' '/^torch(vision)?==/ { print $1 }' requirements.lock)}"
# shellcheck disable=SC2086  # a list of requirements
"$uv" pip install --quiet --python "$venv" --default-index "$TORCH_INDEX" $versions
