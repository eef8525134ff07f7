#!/usr/bin/env bash
# Builds the image with docker or buildah: image/build.sh [--flavour cu130|cu126|cpu] [--compile] [NAME:TAG] [BUILD-ARG=VALUE...]
# --flavour: which torch, by the CUDA version it was built with; cu130 (the default) is the lock file's.
# --compile: with a C and C++ compiler, for runs with model.compile.
# Flavours other than the default and --compile are appended to the tag: tspctl:0.2.0-cu126-compile.
# --print-name: print the image's whole name, build nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

flavour=cu130 compiler="" print_name=""
while [[ "${1:-}" == --* ]]; do
    case "$1" in
        --compile) compiler=g++ && shift ;;
        --print-name) print_name=1 && shift ;;
        --flavour) flavour="${2:?--flavour cu130, cu126 or cpu}" && shift 2 ;;
        *) echo "unknown option $1: image/build.sh [--flavour cu130|cu126|cpu] [--compile] [NAME:TAG] [BUILD-ARG=VALUE...]" >&2 && exit 2 ;;
    esac
done
version="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
name="${1:-tspctl:$version}"
shift $(($# > 0 ? 1 : 0))
arguments=(
    --build-arg "VERSION=$version"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    --build-arg "FLAVOUR=$flavour"
)
case "$flavour" in
    cu130) ;;
    # The last torch whose CUDA 12.6 builds run on Volta (V100).
    cu126) arguments+=(--build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
                       --build-arg "TORCH_VERSIONS=torch==2.11.0 torchvision==0.26.0") ;;
    cpu) arguments+=(--build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu) ;;
    *) echo "unknown flavour $flavour: cu130, cu126 or cpu" >&2 && exit 2 ;;
esac
if [[ "$flavour" != cu130 ]]; then name="$name-$flavour"; fi
if [[ -n "$compiler" ]]; then
    name="$name-compile"
    arguments+=(--build-arg "COMPILER=$compiler")
fi
if [[ -n "$print_name" ]]; then
    echo "$name"
    exit
fi
for assignment in "$@"; do
    arguments+=(--build-arg "$assignment")
done

if docker version >/dev/null 2>&1; then
    docker build --file image/Dockerfile --tag "$name" "${arguments[@]}" .
    docker image inspect --format '{{.Size}}' "$name" | awk -v name="$name" '{printf "%s: %.2f GB\n", name, $1 / 1e9}'
elif command -v buildah >/dev/null; then
    buildah build --layers --file image/Dockerfile --tag "$name" "${arguments[@]}" .
    buildah images --format '{{.Name}}:{{.Tag}}: {{.Size}}' "$name"
else
    echo "cannot build $name: found neither a docker daemon nor buildah" >&2
    exit 1
fi
