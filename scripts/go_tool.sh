#!/usr/bin/env bash
# Prints the path of a program that is written in Go: the one on PATH, else one built at the pinned version into a cache folder.
# Usage: scripts/go_tool.sh helm|helm4|kubeconform|actionlint [--no-build]   (exit code 1: there is none, and none can be built)
set -euo pipefail

flags="-s -w"
tool="${1:?which program: helm, helm4, kubeconform or actionlint}"
program="$tool"
case "$tool" in
    helm) module=helm.sh/helm/v3/cmd/helm version=v3.22.0 page=https://helm.sh/docs/intro/install
        # Which Kubernetes `helm template` assumes: without this it is 1.20, which charts refuse.
        flags="$flags -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34" ;;
    # The tests hold it against Helm 3, whichever is on PATH as helm.
    helm4) module=helm.sh/helm/v4/cmd/helm version=v4.3.2 page=https://helm.sh/docs/intro/install program=helm
        flags="$flags -X helm.sh/helm/v4/internal/version.version=$version" ;;
    kubeconform) module=github.com/yannh/kubeconform/cmd/kubeconform version=v0.8.0 page=https://github.com/yannh/kubeconform ;;
    actionlint) module=github.com/rhysd/actionlint/cmd/actionlint version=v1.7.12 page=https://github.com/rhysd/actionlint ;;
    *) echo "unknown program: $tool" >&2 && exit 2 ;;
esac
folder="${TSPCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tspctl}/bin/$tool-$version"

if command -v "$tool"; then
    exit 0
fi
if [[ -x "$folder/$program" ]]; then
    echo "$folder/$program"
    exit 0
fi
if [[ "${2:-}" == "--no-build" ]]; then
    echo "no $tool on PATH or in $folder: run scripts/go_tool.sh $tool, or see $page" >&2
    exit 1
fi

GO="$(command -v go || echo /usr/local/go/bin/go)"
if [[ ! -x "$GO" ]]; then
    echo "found neither $tool nor Go to build it: see $page" >&2
    exit 1
fi

mkdir -p "$folder"
echo "building $tool $version into $folder (once)" >&2
(
    # One builder at a time; whoever waited finds it done.
    flock 9
    [[ -x "$folder/$program" ]] && exit 0
    CGO_ENABLED=0 GOBIN="$folder" nice "$GO" install -ldflags "$flags" "$module@$version" >&2
) 9>"$folder/.$tool.lock"
echo "$folder/$program"
