#!/bin/sh
# Makes a virtual environment of what requirements.lock pins: install.sh FOLDER
# With TORCH_INDEX, torch and what hangs on it come from there (TORCH_VERSIONS, by default as locked), without hashes.
set -eu
venv="$1"
uv=/opt/uv/bin/uv
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
export UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never

"$uv" venv --quiet --python "$(command -v python)" "$venv"
if [ -z "${TORCH_INDEX:-}" ]; then
    "$uv" pip install --quiet --python "$venv" --require-hashes --no-deps -r requirements.lock
    exit
fi

awk '/^[a-z]/ { keep = $0 !~ /^(torch|torchvision|triton|nvidia-|cuda-)/ } keep' requirements.lock >rest.lock
"$uv" pip install --quiet --python "$venv" --require-hashes --no-deps -r rest.lock
versions="${TORCH_VERSIONS:-$(awk -F'[ ;]' '/^torch(vision)?==/ { print $1 }' requirements.lock)}"
# shellcheck disable=SC2086  # a list of requirements
"$uv" pip install --quiet --python "$venv" --default-index "$TORCH_INDEX" $versions
