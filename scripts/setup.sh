#!/usr/bin/env bash
# Makes .venv from the lock files: pip brings uv (pinned), uv brings the rest (pinned, hashed, cached).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: $("$python" --version) is too old; Python 3.11 or newer is needed (set PYTHON=python3.11)" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian keeps venv's pip in a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >&2
    else
        echo "setup: $python cannot make virtual environments; run: sudo apt-get install python3-venv" >&2
        exit 2
    fi
fi
if ! [ -x .venv/bin/uv ]; then
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --require-hashes -r requirements-setup.lock
fi
# Compiled once here: the tests and the demo start many processes, each of which imports torch.
export VIRTUAL_ENV="$PWD/.venv"
.venv/bin/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
