#!/usr/bin/env bash
# Prints the path of a real Helm, building one with Go into a cache folder where PATH has none.
# Usage: scripts/helm.sh [--no-build]     (exit code 1 where there is none and none can be built)
set -euo pipefail

HELM_VERSION=v3.22.0
CACHE_BIN="${TSPCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tspctl}/bin"

if command -v helm; then
    exit 0
fi
if [[ -x "$CACHE_BIN/helm" ]]; then
    echo "$CACHE_BIN/helm"
    exit 0
fi
if [[ "${1:-}" == "--no-build" ]]; then
    echo "no helm on PATH or in $CACHE_BIN: run scripts/helm.sh, or see https://helm.sh/docs/intro/install" >&2
    exit 1
fi

GO="$(command -v go || echo /usr/local/go/bin/go)"
if [[ ! -x "$GO" ]]; then
    echo "no helm and no go to build it with: see https://helm.sh/docs/intro/install" >&2
    exit 1
fi

mkdir -p "$CACHE_BIN"
echo "building helm $HELM_VERSION into $CACHE_BIN (some minutes, once)" >&2
(
    # One builder at a time; whoever waited finds it done.
    flock 9
    [[ -x "$CACHE_BIN/helm" ]] && exit 0
    CGO_ENABLED=0 GOBIN="$CACHE_BIN" nice "$GO" install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" >&2
) 9>"$CACHE_BIN/.helm.lock"
echo "$CACHE_BIN/helm"
