#!/usr/bin/env bash
# The demo: a learnable data set, one run from submit to best checkpoint. Usage: demo.sh FOLDER
set -euo pipefail
folder=$1
tspctl=${BIN:-.venv/bin}/tspctl
export TSPCTL_STORE="$PWD/$folder/store" TSPCTL_DATA="$PWD/$folder/data" TSPCTL_BACKEND=local

step() { printf '\n$ tspctl %s\n' "$*" >&2; "$tspctl" "$@"; }

[ -f "$folder/data/demo_valid_tsp_groundtruth.csv" ] || step data demo "$folder/data"
run=$("$tspctl" submit --backend local --dataset demo --method tsp --gpus 2 --dry-run -o json |
    "${BIN:-.venv/bin}/python" -c 'import json, sys; print(json.load(sys.stdin)["config"]["name"])')
step submit --backend local --dataset demo --method tsp --gpus 2 --name "$run" --follow
step list
step results "$run"
step fetch-best "$run" --dest "$folder"
