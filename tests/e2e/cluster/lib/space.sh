# shellcheck shell=bash
# Disk space. The project's image weighs 6 GB: buildah keeps it once, the node twice, packed and unpacked, and building it takes
# three copies for a moment. Nothing goes by itself, and a full disk says what it is only in the log of some daemon.
# shellcheck disable=SC2034  # used by the files beside this one

KEPT_IMAGES=3   # versions of the project's image that buildah keeps: of this checkout, and of those before it
CACHED_GIB=3    # what building takes where the dependencies are cached
UNCACHED_GIB=22 # and where not: measured, with the copies that buildah makes of the layer
PROGRAMS_GIB=4  # what one module of programs takes of Go's caches, and a little
LARGE_MIB=1024  # of layers; a change of our own code is a few

# need_space PATH GIB WHAT: ends with one line if the disk of PATH has less, before hours of work do with a worse one
need_space() {
  local path=$1 free_mib
  while [[ ! -e $path ]]; do path=$(dirname "$path"); done
  free_mib=$(df --output=avail -BM "$path" | tail -1 | tr -dc 0-9)
  ((free_mib >= $2 * 1024)) ||
    die "$3 needs $2 GiB on the disk of $path, which has $((free_mib / 1024)) GiB free: make room, or set TSPCTL_CACHE to" \
      "another disk; '$HERE/cluster.sh clean' frees the node's images, 'buildah rmi --all' those of the builds"
}

# forget_old_images NAME ID...: all versions of an image but those, and untagged layers but the newest, which cache the next
# build's first stage; what versions that stay are made of stays with them
forget_old_images() {
  local old name=$1
  shift
  mapfile -t old < <(
    images_by_age --filter "reference=$name" | grep -vxF "$(printf '%s\n' none "$@")"
    images_by_age --filter dangling=true | tail -n +2
  )
  ((${#old[@]} == 0)) || buildah_run rmi "${old[@]}" >/dev/null
}

# images_by_age FILTER...: their ids, newest first
images_by_age() {
  buildah_run images --format '{{.CreatedAtRaw}} {{.ID}}' "$@" | sort --reverse | awk '{print $NF}' | uniq
}

# missing_mib IMAGE FILE: MiB of an image's layers whose digests are not in FILE
missing_mib() {
  local layers
  layers=$(buildah_run info --format '{{.store.GraphRoot}}')/overlay-layers/layers.json
  buildah_run inspect --type image --format '{{range .OCIv1.RootFS.DiffIDs}}{{println .}}{{end}}' "$1" |
    python3 "$HERE/missing_mib.py" "$layers" "$2"
}

# forget_others IMAGE: its other versions, and images without a name. The container runtime also names each by its id, and that
# name alone would keep it.
forget_others() {
  local others
  mapfile -t others < <(ctr_node images ls | awk -v image="$1" -v repository="${1%:*}:" '
    NR > 1 { names[$3] = names[$3] $1 "\n" }
    NR > 1 && $1 !~ /^sha256:/ && ($1 == image || index($1, repository) != 1) { kept[$3] = 1 }
    END { for (digest in names) if (!(digest in kept)) printf "%s", names[digest] }')
  ((${#others[@]} == 0)) || ctr_node images rm --sync "${others[@]}" >/dev/null
}
