#!/usr/bin/env bash
# Makes a kind cluster ready for the tests: the controllers of jobs and queues as tests/e2e/cluster changes them, and the image.
# Usage: kind create cluster && tests/e2e/kind.sh [--manifests CONTROLLER]
#   --manifests only prints the objects of one: operator, jobset, trainer or kueue
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

# facts_of CONTROLLER: its folder in programs/, its module, the folder of its manifests, its namespace, its image as released
facts_of() {
    case $1 in
    operator) echo training-operator github.com/kubeflow/training-operator manifests kubeflow ghcr.io/kubeflow/training-v1/training-operator ;;
    jobset) echo jobset sigs.k8s.io/jobset config jobset-system registry.k8s.io/jobset/jobset ;;
    trainer) echo trainer github.com/kubeflow/trainer/v2 manifests kubeflow-system ghcr.io/kubeflow/trainer/trainer-controller-manager ;;
    kueue) echo kueue sigs.k8s.io/kueue config kueue-system registry.k8s.io/kueue/kueue ;;
    *) echo "no controller $1" >&2 && return 1 ;;
    esac
}

manifests() {
    local facts folder version
    facts="$(facts_of "$1")"
    read -r program module source _ image <<<"$facts"
    version="$(awk -v module="$module" '$1 == module { print $2 }' "$here/cluster/programs/$program/go.mod")"
    folder="$(mktemp -d)"
    cp -r "$(cd "$here/cluster/programs/$program" && go mod download -json "$module@$version" |
        sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')/$source" "$folder/upstream"
    chmod -R u+w "$folder"
    cp "$here/cluster/$1"/* "$folder/"
    # As released: our own cluster runs the controllers and busybox from images of its own.
    sed -i -e "s#newName: localhost/[a-z-]*#newName: $image#" -e "s#localhost/busybox:e2e#busybox:1.37#" "$folder/kustomization.yaml"
    kubectl kustomize "$folder"
    rm -rf "$folder"
}

# Kueue last: until it runs, its webhooks refuse every Deployment. Kubeflow Trainer needs the kinds of JobSet.
install() {
    local name facts namespace
    for name in operator jobset trainer kueue; do
        facts="$(facts_of "$name")"
        read -r _ _ _ namespace _ <<<"$facts"
        # server-side: the definitions are larger than the annotation that client-side apply would write
        manifests "$name" | kubectl apply --server-side -f -
        kubectl --namespace "$namespace" wait deployment --all --for=condition=Available --timeout=300s
    done
}

if [[ "${1:-}" == --manifests ]]; then
    manifests "$2"
    exit
fi
install
"$here/../../image/build.sh" --flavour cpu tspctl:e2e
docker tag tspctl:e2e-cpu tspctl:e2e
kind load docker-image tspctl:e2e
