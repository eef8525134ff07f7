# shellcheck shell=bash
# Control plane and node programs: how each is started, and how all are ended.

kubectl_admin() { kubectl --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }
ctr_node() { in_node ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

# background NAME COMMAND...: a daemon in the node's namespaces, its log and its PID under its name
background() {
  local name=$1
  shift
  setsid nsenter --target "$(<"$PIDS/node")" --mount --net --pid -- "$@" </dev/null >>"$LOGS/$name.log" 2>&1 &
  echo $! >"$PIDS/$name"
}

# pid_of NAME: of the daemon itself, which nsenter waits for
pid_of() { [[ -f $PIDS/$1 ]] && pgrep --parent "$(<"$PIDS/$1")"; }

# stop_daemon NAME: asked to end, and killed after 10 seconds
stop_daemon() {
  local pid
  pid=$(pid_of "$1") || return 0
  kill "$pid"
  wait_for 10 not_alive "$pid" || kill -KILL "$pid"
}
not_alive() { ! kill -0 "$1" 2>/dev/null; }

start_etcd() {
  local client=http://127.0.0.1:2379 peer=http://127.0.0.1:2380
  background etcd etcd --name e2e --data-dir "$STATE/etcd" --listen-client-urls $client --advertise-client-urls $client \
    --listen-peer-urls $peer --initial-advertise-peer-urls $peer --initial-cluster e2e=$peer --unsafe-no-fsync --log-level warn
}

start_containerd() { background containerd containerd --config "$STATE/containerd/config.toml"; }

start_apiserver() {
  background apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --bind-address="$NODE_IP" --secure-port=6443 --advertise-address="$NODE_IP" --service-cluster-ip-range="$SERVICE_CIDR" \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --token-auth-file="$PKI/tokens.csv" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$PKI/service-accounts.pub" \
    --service-account-signing-key-file="$PKI/service-accounts.key" --kubelet-certificate-authority="$PKI/ca.crt" \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
    --kubelet-preferred-address-types=InternalIP --profiling=false
}

start_controller-manager() {
  background controller-manager kube-controller-manager --bind-address=127.0.0.1 --cert-dir="$STATE/controller-manager" \
    --kubeconfig="$STATE/controller-manager.kubeconfig" --authentication-kubeconfig="$STATE/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$STATE/controller-manager.kubeconfig" --root-ca-file="$PKI/ca.crt" \
    --service-account-private-key-file="$PKI/service-accounts.key" --use-service-account-credentials --leader-elect=false
}

start_scheduler() {
  background scheduler kube-scheduler --bind-address=127.0.0.1 --cert-dir="$STATE/scheduler" --leader-elect=false \
    --kubeconfig="$STATE/scheduler.kubeconfig" --authentication-kubeconfig="$STATE/scheduler.kubeconfig" \
    --authorization-kubeconfig="$STATE/scheduler.kubeconfig"
}

# Beside the other one, for the pods that name it.
start_gang-scheduler() {
  kubectl_admin apply --server-side -f "$GANG_MANIFESTS/coscheduling/crd.yaml" >/dev/null
  cat >"$STATE/gang-scheduler.yaml" <<EOF
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: "$KUBECONFIG_ADMIN"}
profiles:
  - schedulerName: scheduler-plugins-scheduler
    plugins:
      multiPoint: {enabled: [{name: Coscheduling}]}
      queueSort: {enabled: [{name: Coscheduling}], disabled: [{name: "*"}]}
    pluginConfig: [{name: Coscheduling, args: {permitWaitingTimeSeconds: 60}}]
EOF
  background gang-scheduler scheduler --config="$STATE/gang-scheduler.yaml" --bind-address=127.0.0.1 --secure-port=10359 \
    --cert-dir="$STATE/gang-scheduler" --authentication-kubeconfig="$KUBECONFIG_ADMIN" --authorization-kubeconfig="$KUBECONFIG_ADMIN"
}

# Reached at 127.0.0.1 by the node, whose container runtime asks local addresses by plain http, and at the node's by this machine.
start_registry() {
  background registry registry ":$REGISTRY_PORT"
  wait_for 20 bash -c ": </dev/tcp/$NODE_IP/$REGISTRY_PORT"
}

start_kubelet() {
  background kubelet kubelet --kubeconfig="$STATE/kubelet.kubeconfig" --config="$STATE/kubelet.yaml" \
    --node-ip="$NODE_IP" --hostname-override="$NODE_NAME"
}

start_proxy() { background proxy kube-proxy --config="$STATE/proxy.yaml"; }
start_dns() { background dns python3 "$HERE/dns.py" "$KUBECONFIG_ADMIN" "$NODE_IP"; }

api_ready() { wait_for 120 kubectl_admin get --raw /readyz || { tail -20 "$LOGS/apiserver.log" >&2; return 1; }; }
node_ready() {
  wait_for 90 kubectl_admin wait --for=condition=Ready "node/$NODE_NAME" --timeout=2s ||
    { tail -20 "$LOGS/kubelet.log" >&2; return 1; }
}

# A cluster is ended by killing it, so what its containers left in containerd's records goes before the next one starts: they,
# what was being copied in, and with a restart, which collects garbage, whatever only these held.
forget_containers() {
  local containers leases
  wait_for 20 ctr_node version || return 1
  mapfile -t containers < <(ctr_node containers ls -q)
  mapfile -t leases < <(ctr_node leases ls -q)
  ((${#containers[@]} + ${#leases[@]})) || return 0
  ((${#containers[@]} == 0)) || ctr_node containers rm "${containers[@]}" >/dev/null
  ((${#leases[@]} == 0)) || ctr_node leases rm "${leases[@]}" >/dev/null
  stop_daemon containerd
  start_containerd
  wait_for 20 ctr_node version
}
