# shellcheck shell=bash
# Certificates, tokens and kubeconfigs of one cluster; made anew at every start, gone at every stop.

# certificate NAME SUBJECT [SUBJECT-ALT-NAMES]
certificate() {
  openssl req -newkey rsa:2048 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(
      echo extendedKeyUsage=serverAuth,clientAuth
      [[ -z ${3:-} ]] || echo "subjectAltName=$3"
    ) 2>/dev/null
}

# account FILE USER [GROUP]: a token in tokens.csv and a kubeconfig that carries it
account() {
  local token
  token=$(openssl rand -hex 16)
  echo "$token,$2,$2,\"${3:-}\"" >>tokens.csv
  cat >"$STATE/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {token: "$token"}}]
contexts: [{name: tspctl-e2e, context: {cluster: e2e, user: $1}}]
current-context: tspctl-e2e
YAML
}

write_pki() (
  umask 077
  mkdir -p "$PKI"
  cd "$PKI" || return
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tspctl-e2e -keyout ca.key -out ca.crt 2>/dev/null
  certificate apiserver /CN=kube-apiserver \
    "IP:$NODE_IP,IP:127.0.0.1,IP:$SERVICE_IP,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate kubelet "/CN=$NODE_NAME" "IP:$NODE_IP,DNS:$NODE_NAME"
  certificate kubelet-client /O=system:masters/CN=kubelet-client
  openssl genrsa -out service-accounts.key 2048 2>/dev/null
  openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
  account admin admin system:masters
  account controller-manager system:kube-controller-manager
  account scheduler system:kube-scheduler
  account proxy system:kube-proxy
  account kubelet "system:node:$NODE_NAME" system:nodes
)
