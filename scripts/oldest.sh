#!/usr/bin/env bash
# Runs the tests with the oldest versions that the wheel allows, in an environment of their own: a bound that nobody tries is wrong.
# Usage: scripts/oldest.sh [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv=.venv/bin/uv folder=.oldest
paths=("$@")
((${#paths[@]})) || paths=(tests/{cli,config,store,run,k8s,data,train,extract,prepare})
"$uv" venv --quiet --clear --python .venv/bin/python "$folder"
"$uv" pip compile --quiet --resolution lowest-direct --extra train --extra plot --extra tensorboard --no-header \
    --no-annotate --output-file "$folder/oldest.txt" pyproject.toml
"$uv" pip install --quiet --python "$folder/bin/python" -r "$folder/oldest.txt"
# What checks the sources is left out: it has bounds of its own.
mapfile -t tools < <(.venv/bin/python -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' |
    grep -vE '^(import-linter|mkdocs|mypy|ruff|shellcheck)')
"$uv" pip install --quiet --python "$folder/bin/python" --constraint "$folder/oldest.txt" "${tools[@]}"
grep -E '^(av|boto3|click|h5py|kubernetes|numpy|pysocks|pyyaml|rich|tensorboard|textual|torch|torchvision)==' "$folder/oldest.txt"
PATH="$PWD/$folder/bin:$PATH" PYTHONPATH="$PWD" "$folder/bin/python" -m pytest -q -n "$(nproc)" --dist worksteal \
    -m "not e2e and not slow and not thorough" \
    "${paths[@]}"
