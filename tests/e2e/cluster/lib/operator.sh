# shellcheck shell=bash
# The Kubeflow training operator, installed as its users install it: its own manifests, with our image and init container.

install_operator() {
  local folder=$STATE/operator
  rm -rf "$folder"
  mkdir -p "$folder"
  cp -r "$OPERATOR_MANIFESTS" "$folder/upstream"
  chmod -R u+w "$folder/upstream" # Go keeps modules read-only
  cp "$HERE"/operator/* "$folder/"
  # server-side: the definition of PyTorchJob is larger than the annotation that client-side apply would write
  kubectl_admin apply --server-side -k "$folder" >"$LOGS/operator-install.log" || return 1
  kubectl_admin -n kubeflow rollout status deployment/training-operator --timeout=120s >/dev/null
}
