#!/bin/bash
# One real Kubernetes node with its control plane on this machine, in namespaces of its own.
#   cluster.sh start [OWNER-PID]   up within two minutes, with its controllers; ends with the process OWNER-PID
#   cluster.sh stop                ends it, whatever state it is in; images stay for the next start
#   cluster.sh status              its processes and its node
#   cluster.sh facts               node, addresses and images, as JSON
#   cluster.sh load IMAGE          copies an image that buildah has to the node, if the node lacks it
#   cluster.sh restart DAEMON      ends and starts one of: etcd apiserver controller-manager scheduler kubelet proxy dns gang-scheduler registry
#   cluster.sh kill-container ID   SIGKILL, as the kernel does when memory runs out
#   cluster.sh in-node COMMAND...  runs a command in the node's namespaces
#   cluster.sh clean               stop, and forget the images too
# build.sh must have run. KUBECONFIG of the cluster: $TSPCTL_CACHE/cluster/admin.kubeconfig
set -euo pipefail
shopt -s inherit_errexit
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
for part in space packages programs images pki configs network daemons controllers; do
  # shellcheck source=/dev/null
  source "$HERE/lib/$part.sh"
done

start() {
  local missing archives
  missing=$(missing_packages)
  [[ -z $missing ]] || die "missing $missing: run $HERE/build.sh"
  [[ $(id -u) == 0 ]] || die "needs root"
  stop_quietly
  no_cgroups || die "another kubelet runs on this machine"
  trap 'say "start failed (logs in $LOGS); stopping"; stop_quietly' EXIT
  mkdir -p "$LOGS" "$PIDS"
  rm -f "$LOGS"/*
  write_pki
  write_configs
  start_network
  start_namespaces
  [[ -z ${1:-} ]] || end_with "$1"
  start_etcd
  start_containerd
  start_apiserver
  forget_containers
  archives=$(build_cluster_images)
  import_all "$archives"
  api_ready
  start_controller-manager
  start_scheduler
  start_kubelet
  start_proxy
  start_dns
  node_ready
  say "node ready"
  install_controllers
  trap - EXIT
  say "controllers ready; KUBECONFIG=$KUBECONFIG_ADMIN"
}

# end_with PID: a watcher that stops the cluster when that process is gone
end_with() {
  setsid bash -c "while kill -0 $1; do sleep 1; done; exec '$HERE/cluster.sh' stop" </dev/null >/dev/null 2>&1 &
  echo $! >"$PIDS/watcher"
}

stop_quietly() {
  local watcher
  if [[ -f $PIDS/watcher ]]; then
    watcher=$(<"$PIDS/watcher")
    [[ $watcher == "$$" ]] || kill "$watcher" 2>/dev/null || true
  fi
  if [[ -f $PIDS/unshare ]]; then
    kill -KILL "$(<"$PIDS/unshare")" 2>/dev/null || true
  fi
  remove_cgroups
  stop_network
  # all but the logs and the images
  [[ ! -d $STATE ]] || find "$STATE" -mindepth 1 -maxdepth 1 ! -name logs ! -name containerd -exec rm -rf {} +
  rm -rf "$STATE/containerd/state"
}

status() {
  node_is_there || { echo "no cluster"; exit 1; }
  local daemon pid
  for daemon in etcd containerd apiserver controller-manager scheduler kubelet proxy dns; do
    pid=$(pid_of $daemon) || { echo "$daemon is not running"; continue; }
    ps -o pid=,rss=,cputime= -p "$pid" | awk -v name=$daemon '{printf "%-20s pid %-8s %5d MiB  cpu %s\n", name, $1, $2/1024, $3}'
  done
  kubectl_admin get nodes -o wide
}

facts() { printf '{"node": "%s", "s3_host": "%s", "busybox": "%s"}\n' "$NODE_NAME" "$HOST_IP" "$BUSYBOX_IMAGE"; }

has_image() { [[ -n $(ctr_node images ls -q "name==$1") ]]; }

# the small images change with their digest, their names do not: loaded again at every start, which costs a second
import_all() {
  local file
  for file in $1; do ctr_node images import "$file" >/dev/null; done
}

# load IMAGE: layers that the node has are not copied again; other versions of the image go, at first if they share no large layer
load() {
  local mib
  if ! has_image "$1"; then
    ctr_node content ls -q >"$STATE/content"
    mib=$(missing_mib "$1" "$STATE/content")
    if ((mib > LARGE_MIB)); then
      forget_others "$1"
      ctr_node content ls -q >"$STATE/content"
    fi
    need_space "$STATE" $((2 * mib / 1024 + 2)) "copying $1 to the node"
    say "copying $1 to the node ($mib MiB)"
    buildah push --quiet "$1" "docker-archive:/dev/stdout:$1" | python3 "$HERE/image_tar.py" "$1" "$STATE/content" |
      ctr_node images import - >/dev/null
  fi
  forget_others "$1"
}

case ${1:-} in
  start) start "${2:-}" ;;
  stop)
    stop_quietly
    say stopped
    ;;
  status) status ;;
  facts) facts ;;
  load) load "$2" ;;
  restart)
    stop_daemon "$2"
    "start_$2"
    ;;
  kill-container) ctr_node tasks kill --signal SIGKILL "$2" ;;
  in-node)
    shift
    in_node "$@"
    ;;
  clean)
    stop_quietly
    rm -rf "$STATE"
    ;;
  *)
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
