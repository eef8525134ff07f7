#!/usr/bin/env bash
# Makes a kind cluster ready for the tests: the training operator as tests/e2e/cluster/operator changes it, and the image.
# Usage: kind create cluster && tests/e2e/kind.sh [--manifests]     (--manifests only prints the operator's objects)
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
version="$(awk '$1 == "github.com/kubeflow/training-operator" { print $2 }' "$here/cluster/programs/training-operator/go.mod")"

manifests() {
    local folder
    folder="$(mktemp -d)"
    cp -r "$(cd "$here/cluster/programs/training-operator" && go mod download -json "github.com/kubeflow/training-operator@$version" |
        sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')/manifests" "$folder/upstream"
    chmod -R u+w "$folder"
    # As released: our own cluster runs the operator and busybox from images of its own.
    sed -e "s#newName: localhost/training-operator#newName: ghcr.io/kubeflow/training-v1/training-operator#" \
        -e "s#localhost/busybox:e2e#busybox:1.37#" \
        "$here/cluster/operator/kustomization.yaml" >"$folder/kustomization.yaml"
    cp "$here/cluster/operator/initContainer.yaml" "$folder/"
    kubectl kustomize "$folder"
    rm -rf "$folder"
}

if [[ "${1:-}" == --manifests ]]; then
    manifests
    exit
fi
# server-side: the definition of PyTorchJob is larger than the annotation that client-side apply would write
manifests | kubectl apply --server-side -f -
kubectl --namespace kubeflow rollout status deployment/training-operator --timeout=300s
"$here/../../image/build.sh" --flavour cpu tspctl:e2e
docker tag tspctl:e2e-cpu tspctl:e2e
kind load docker-image tspctl:e2e
