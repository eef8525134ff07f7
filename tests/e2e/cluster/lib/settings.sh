# shellcheck shell=bash
# What every part of the bring-up shares: versions, folders, addresses, and three small functions.
# shellcheck disable=SC2034  # used by the files that source this one

KUBERNETES_VERSION=1.33.13 # as in programs/kubernetes/go.mod
OPERATOR_VERSION=1.9.3     # as in programs/training-operator/go.mod
TRAINER_VERSION=2.2.1      # as in programs/trainer/go.mod
JOBSET_VERSION=0.11.1      # as in programs/jobset/go.mod
KUEUE_VERSION=0.13.10      # as in programs/kueue/go.mod
GANG_SCHEDULER_VERSION=0.33.5 # as in programs/scheduler-plugins/go.mod

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${TSPCTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tspctl}
BIN=$CACHE/bin       # links to the programs in use
IMAGES=$CACHE/images # image archives, named by the digest of what they were made from
STATE=$CACHE/cluster # everything of the running cluster; containerd's images outlive a stop
LOGS=$STATE/logs
PKI=$STATE/pki
PIDS=$STATE/pids
KUBECONFIG_ADMIN=$STATE/admin.kubeconfig
CONTAINERD_SOCKET=$STATE/containerd/containerd.sock

# One cluster a machine: these names and addresses exist once. The machine is .1, the node .2.
NETNS=tspctl-e2e
VETH_HOST=tspctl-e2e0
VETH_NODE=tspctl-e2e1
HOST_IP=10.99.0.1
NODE_IP=10.99.0.2
NODE_NAME=tsp-node-0
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
SERVICE_IP=10.96.0.1 # of the API server
REGISTRY_PORT=5000

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then
      say "gave up waiting for: $*"
      return 1
    fi
    sleep 0.2
  done
}

# persist COMMAND...: up to three times, for what fetches from mirrors that may fail for a moment
persist() {
  local pause
  for pause in 10 30; do
    "$@" && return
    say "failed, again in $pause s: $*"
    sleep "$pause"
  done
  "$@"
}

# digest_of FILE...: one short name for their contents
digest_of() { sha256sum "$@" | sed 's| .*/| |' | sha256sum | cut -c1-12; }

# the programs that we built come first, then the machine's
export PATH=$BIN:$PATH:/usr/sbin:/sbin
