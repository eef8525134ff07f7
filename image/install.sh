#!/bin/sh
# Makes a virtual environment of what requirements.lock pins: install.sh FOLDER
# With TORCH_INDEX, torch and what hangs on it come from there (TORCH_VERSIONS, by default as locked), without hashes.
set -eu
venv="$1"
uv=/opt/uv/bin/uv
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
export UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
# Gigabytes from an index that may fail for a moment: each request is tried again, and once more the whole.
export UV_HTTP_RETRIES=10 UV_HTTP_TIMEOUT=120

pip_install() {
    "$uv" pip install --quiet --python "$venv" "$@" && return
    echo "installing failed; trying once more" >&2
    sleep 10
    "$uv" pip install --quiet --python "$venv" "$@"
}

"$uv" venv --quiet --python "$(command -v python)" "$venv"
if [ -z "${TORCH_INDEX:-}" ]; then
    pip_install --require-hashes --no-deps -r requirements.lock
    exit
fi

awk '/^[a-z]/ { keep = $0 !~ /^(torch|torchvision|triton|nvidia-|cuda-)/ } keep' requirements.lock >rest.lock
pip_install --require-hashes --no-deps -r rest.lock
versions="${TORCH_VERSIONS:-$(awk -F'[ ;]' '/^torch(vision)?==/ { print $1 }' requirements.lock)}"
# shellcheck disable=SC2086  # a list of requirements
pip_install --default-index "$TORCH_INDEX" $versions
