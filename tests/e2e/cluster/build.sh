#!/bin/bash
# Builds what is missing for a cluster of ours, once, into $TSPCTL_CACHE (default ~/.cache/tspctl).
#   build.sh [packages|programs|images|all]   what the cluster itself needs
#   build.sh gang-scheduler                   the coscheduling plugin in a scheduler of its own
#   build.sh registry                         a registry of images
#   build.sh project-image                    the project's own image, from image/Dockerfile; prints its name
set -euo pipefail
shopt -s inherit_errexit
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
for part in space packages programs images; do
  # shellcheck source=/dev/null
  source "$HERE/lib/$part.sh"
done

mkdir -p "$CACHE"
exec 9>"$CACHE/build.lock"
flock 9 # two builds at once would do the same work twice

case ${1:-all} in
  packages) install_packages ;;
  programs) build_programs ;;
  images) build_cluster_images ;;
  all)
    install_packages
    build_programs
    build_cluster_images >/dev/null
    ;;
  gang-scheduler) build_gang_scheduler ;;
  registry) build_registry ;;
  project-image) build_project_image ;;
  *)
    sed -n '2,6s/^# *//p' "$0" >&2
    exit 2
    ;;
esac
