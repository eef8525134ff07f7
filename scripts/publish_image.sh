#!/usr/bin/env bash
# Builds an image for REGISTRY with docker and pushes it; prints tag and digest, also into $GITHUB_OUTPUT.
# Usage: scripts/publish_image.sh REGISTRY [--flavour cu130|cu126|cpu] [--compile]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

registry="${1:?which registry: ghcr.io/OWNER}"
shift
version="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
name="$(image/build.sh --print-name "$@" "$registry/tspctl:$version")"
image/build.sh "$@" "$registry/tspctl:$version"
docker push "$name"
digest="$(docker inspect --format '{{index .RepoDigests 0}}' "$name")"
printf 'tag=%s\ndigest=%s\n' "${name##*:}" "${digest##*@}" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
