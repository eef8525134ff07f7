# shellcheck shell=bash
# The controllers of jobs and queues, installed as their users install them: their own manifests, with our images.

# install_controller NAME MANIFESTS NAMESPACE: NAME/kustomization.yaml changes the MANIFESTS, which it sees as upstream
install_controller() {
  local name=$1 manifests=$2 namespace=$3 folder=$STATE/$1
  rm -rf "$folder"
  mkdir -p "$folder"
  cp -r "$manifests" "$folder/upstream"
  chmod -R u+w "$folder/upstream" # Go keeps modules read-only
  cp "$HERE/$name"/* "$folder/"
  # Of one replica each there is nobody to elect, and one that renews its lease too late, as on a busy machine, ends itself.
  grep -rlZ 'leaderElect: true' "$folder/upstream" | xargs -0r sed -i 's/leaderElect: true/leaderElect: false/'
  # server-side: the definitions are larger than the annotation that client-side apply would write
  kubectl_admin apply --server-side -k "$folder" >"$LOGS/$name-install.log" 2>&1 || { tail -5 "$LOGS/$name-install.log" >&2; return 1; }
  wait_for 60 has_pod "$namespace"
}
has_pod() { [[ -n $(kubectl_admin -n "$1" get pods -o name) ]]; }

# Kueue last: until it runs, its webhooks refuse every Deployment and pod, those of the other controllers too. Kubeflow Trainer
# does not start without the kinds of JobSet.
install_controllers() {
  install_controller operator "$OPERATOR_MANIFESTS" kubeflow &&
    install_controller jobset "$JOBSET_MANIFESTS" jobset-system &&
    install_controller trainer "$TRAINER_MANIFESTS" kubeflow-system &&
    install_controller kueue "$KUEUE_MANIFESTS" kueue-system || return 1
  local namespace
  for namespace in kubeflow jobset-system kubeflow-system kueue-system; do
    kubectl_admin -n "$namespace" wait deployment --all --for=condition=Available --timeout=180s >/dev/null || return 1
  done
}
