# shellcheck shell=bash
# Debian packages: what runs the node, builds the images and plumbs the network.

# program:package
NEEDED_PROGRAMS=(
  containerd:containerd runc:runc etcd:etcd-server buildah:buildah debootstrap:debootstrap
  iptables:iptables conntrack:conntrack ethtool:ethtool socat:socat openssl:openssl ip:iproute2 nsenter:util-linux
)
CNI_PLUGINS=/usr/lib/cni

missing_packages() {
  local entry
  for entry in "${NEEDED_PROGRAMS[@]}"; do
    command -v "${entry%%:*}" >/dev/null || echo "${entry#*:}"
  done
  [[ -x $CNI_PLUGINS/bridge ]] || echo containernetworking-plugins
}

install_packages() {
  local packages
  mapfile -t packages < <(missing_packages)
  ((${#packages[@]})) || return 0
  command -v apt-get >/dev/null || die "no apt-get here: install ${packages[*]} yourself"
  say "installing ${packages[*]}"
  persist apt-get update -qq
  DEBIAN_FRONTEND=noninteractive persist apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}
