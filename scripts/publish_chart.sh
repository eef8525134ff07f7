#!/usr/bin/env bash
# Pushes the chart's archive in dist/ to REGISTRY/charts as an OCI artifact and signs it there by its digest.
# Usage: scripts/publish_chart.sh REGISTRY     with ACTOR and TOKEN: log in first
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

registry="${1:?which registry: ghcr.io/OWNER}"
helm="$(scripts/go_tool.sh helm)"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
host="${registry%%/*}"
if [[ -n "${TOKEN:-}" ]]; then
    "$helm" registry login "$host" --username "${ACTOR:?}" --password-stdin <<<"$TOKEN"
    cosign login "$host" --username "$ACTOR" --password-stdin <<<"$TOKEN"
fi
pushed="$("$helm" push "dist/tsp-$version.tgz" "oci://$registry/charts" 2>&1)"
echo "$pushed"
digest="$(sed -n 's/^Digest: //p' <<<"$pushed")"
[[ "$digest" == sha256:* ]] || { echo "helm push named no digest: nothing was signed" >&2; exit 1; }
cosign sign --yes "$registry/charts/tsp@$digest"
