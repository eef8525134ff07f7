# shellcheck shell=bash
# The node's own namespaces (network, mounts, processes). Everything of the cluster runs inside: the machine sees one
# veth, and when the process that holds the namespaces is killed, the kernel ends all the rest.

# Settings that the kubelet would write: plain files are bound over them.
KERNEL_SETTINGS=(
  vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
  kernel/keys/root_maxkeys kernel/keys/root_maxbytes
)
# Folders with fixed names that node programs write to: empty ones of our own.
PRIVATE_FOLDERS=(/run/netns /run/containerd /var/lib/kubelet /var/lib/cni /var/log)

# in_node COMMAND...: in the node's namespaces. nsenter and not `ip netns exec`, which would hide /sys/fs/cgroup.
in_node() { nsenter --target "$(<"$PIDS/node")" --mount --net --pid -- "$@"; }
node_is_there() { [[ -f $PIDS/node ]] && kill -0 "$(<"$PIDS/node")" 2>/dev/null; }

start_network() {
  ip netns add "$NETNS"
  ip link add "$VETH_HOST" type veth peer name "$VETH_NODE"
  ip link set "$VETH_NODE" netns "$NETNS"
  ip addr add "$HOST_IP/24" dev "$VETH_HOST"
  ip link set "$VETH_HOST" up
  ip -n "$NETNS" link set lo up
  ip -n "$NETNS" addr add "$NODE_IP/24" dev "$VETH_NODE"
  ip -n "$NETNS" link set "$VETH_NODE" up
  ip -n "$NETNS" route add default via "$HOST_IP"
  nsenter --net="/run/netns/$NETNS" sysctl -qw net.ipv4.ip_forward=1
  ip route replace "$POD_CIDR" via "$NODE_IP" # so that pods reach the S3 server beside the cluster
}

# The first process of the node: it reaps what others leave, and holds the namespaces.
start_namespaces() {
  local setting folder script="set -e; mount --make-rshared /"
  for folder in "${PRIVATE_FOLDERS[@]}"; do
    script+="; mkdir -p $folder; mount -t tmpfs tmpfs $folder"
  done
  script+="; mount --bind $STATE/kubelet /var/lib/kubelet"
  for setting in "${KERNEL_SETTINGS[@]}"; do
    cat "/proc/sys/$setting" >"$STATE/kernel/${setting//\//_}"
    script+="; mount --bind $STATE/kernel/${setting//\//_} /proc/sys/$setting"
  done
  rm -f "$STATE/node.ready"
  setsid nsenter --net="/run/netns/$NETNS" unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash -c "$script; touch $STATE/node.ready; while :; do sleep 3600 & wait; done" </dev/null >"$LOGS/node.log" 2>&1 &
  local parent=$!
  wait_for 10 test -f "$STATE/node.ready" || { cat "$LOGS/node.log" >&2; return 1; }
  echo "$parent" >"$PIDS/unshare"
  pgrep --parent "$parent" >"$PIDS/node"
}

stop_network() {
  local folder
  ip link del "$VETH_HOST" 2>/dev/null || true
  ip netns del "$NETNS" 2>/dev/null || true
  for folder in "${PRIVATE_FOLDERS[@]}"; do rmdir "$folder" 2>/dev/null || true; done # those made as mount points only
}

# Empty control groups outlive their processes by a moment.
remove_cgroups() {
  wait_for 10 no_cgroups || say "some control groups of ended pods are still there"
}
no_cgroups() {
  local folder left=0
  for folder in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [[ -d $folder ]] || continue
    find "$folder" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [[ ! -d $folder ]] || left=1
  done
  return $left
}
