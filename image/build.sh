#!/usr/bin/env bash
# Builds the image with docker or buildah: image/build.sh [--compile] [NAME:TAG] [BUILD-ARG=VALUE...]
# --compile: with a C compiler, for runs with model.compile; the tag gets the ending -compile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compiler=""
if [ "${1:-}" = --compile ]; then
    compiler=gcc
    shift
fi
name="${1:-tspctl:$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}"
name="$name${compiler:+-compile}"
shift $(($# > 0 ? 1 : 0))
arguments=(
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
)
if [ -n "$compiler" ]; then
    arguments+=(--build-arg "COMPILER=$compiler")
fi
for assignment in "$@"; do
    arguments+=(--build-arg "$assignment")
done

if docker version >/dev/null 2>&1; then
    exec docker build --file image/Dockerfile --tag "$name" "${arguments[@]}" .
elif command -v buildah >/dev/null; then
    exec buildah build --layers --file image/Dockerfile --tag "$name" "${arguments[@]}" .
fi
echo "neither a docker daemon nor buildah is here to build $name with" >&2
exit 1
