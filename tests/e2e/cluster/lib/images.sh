# shellcheck shell=bash
# Container images without a registry: made here with buildah, kept as archives under the digest of what they are made from.

DEBIAN=bookworm
BASE_IMAGE=localhost/debian-python:$DEBIAN # what the project's Dockerfile builds on, in place of a registry's Python image
PAUSE_IMAGE=localhost/pause:e2e
BUSYBOX_IMAGE=localhost/busybox:e2e
PROJECT_IMAGE=localhost/tspctl
DEPENDENCIES_LABEL=io.tspctl.e2e.dependencies
OPERATOR_IMAGE=localhost/training-operator:v$OPERATOR_VERSION
TRAINER_IMAGE=localhost/trainer:v$TRAINER_VERSION
JOBSET_IMAGE=localhost/jobset:v$JOBSET_VERSION
KUEUE_IMAGE=localhost/kueue:v$KUEUE_VERSION

# build as root without user namespaces, on any file system that a virtual machine has
buildah_run() { buildah --log-level error "$@"; }
bud() { buildah_run bud --quiet --isolation chroot --network host --layers "$@" >/dev/null; }

# archive NAME DIGEST IMAGE BUILDER...: $IMAGES/NAME-DIGEST.tar, calling BUILDER only if it is missing; prints the path
archive() {
  local name=$1 file=$IMAGES/$1-$2.tar image=$3
  shift 3
  if [[ ! -f $file ]]; then
    say "building image $image"
    mkdir -p "$IMAGES"
    "$@"
    rm -f "$IMAGES/$name"-*.tar
    buildah_run push --quiet "$image" "docker-archive:$file.part:$image" >/dev/null
    mv "$file.part" "$file"
  fi
  echo "$file"
}

# one_program IMAGE FILE ENTRYPOINT: an image that holds nothing but one static program
one_program() {
  local image=$1 file=$2 entrypoint=$3 folder
  folder=$(mktemp -d)
  install -m 755 "$file" "$folder/program"
  printf 'FROM scratch\nCOPY program %s\nUSER 65532:65532\nENTRYPOINT ["%s"]\n' "$entrypoint" "$entrypoint" >"$folder/Dockerfile"
  bud -t "$image" "$folder"
  rm -rf "$folder"
}

build_pause() {
  local program
  program=$(mktemp)
  (cd "$HERE/pause" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$program" .)
  one_program $PAUSE_IMAGE "$program" /pause
  rm -f "$program"
}

# a shell, nslookup and sleep in 2 MB: the operator's init container, and the trivial image of the first tests
build_busybox() {
  local folder
  folder=$(mktemp -d)
  (cd "$folder" && persist apt-get download -qq busybox-static && dpkg -x busybox-static_*.deb unpacked)
  install -D -m 755 "$folder/unpacked/bin/busybox" "$folder/image/bin/busybox"
  "$folder/image/bin/busybox" --list | while read -r applet; do
    [[ $applet == busybox ]] || ln -s busybox "$folder/image/bin/$applet"
  done
  printf 'FROM scratch\nCOPY bin /bin\nUSER 65532:65532\nCMD ["/bin/sh"]\n' >"$folder/image/Dockerfile"
  bud -t $BUSYBOX_IMAGE "$folder/image"
  rm -rf "$folder"
}

# Debian's own Python 3.11, called as in the Docker library's image
build_base() {
  local folder
  buildah_run inspect $BASE_IMAGE >/dev/null 2>&1 && return
  folder=$(mktemp -d)
  say "bootstrapping Debian $DEBIAN"
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip $DEBIAN "$folder/root" >"$folder/log" 2>&1 ||
    { tail -20 "$folder/log"; die "debootstrap failed"; }
  rm -rf "$folder"/root/var/cache/apt/* "$folder"/root/var/lib/apt/lists/*
  ln -sf python3 "$folder/root/usr/bin/python"
  printf 'FROM scratch\nCOPY root /\nENV LANG=C.UTF-8\nCMD ["python3"]\n' >"$folder/Dockerfile"
  bud -t $BASE_IMAGE "$folder"
  rm -rf "$folder"
}

# the small images that every cluster of ours needs; prints their archives
build_cluster_images() {
  archive pause "$(digest_of "$HERE/pause/main.go" "$HERE/lib/images.sh")" $PAUSE_IMAGE build_pause
  archive busybox "$(digest_of "$HERE/lib/images.sh")" $BUSYBOX_IMAGE build_busybox
  controller_archive training-operator "$OPERATOR_IMAGE" training-operator.v1
  controller_archive trainer "$TRAINER_IMAGE" trainer-controller-manager
  controller_archive jobset "$JOBSET_IMAGE" jobset
  controller_archive kueue "$KUEUE_IMAGE" kueue
}

# controller_archive NAME IMAGE PROGRAM: an image with one of the programs that we built
controller_archive() {
  archive "$1" "$(digest_of "$BIN/$3" "$HERE/lib/images.sh")" "$2" one_program "$2" "$BIN/$3" /manager
}

# The project's own image, from image/Dockerfile on our base; its tag names what it is made from. Prints the name.
build_project_image() (
  local image dependencies sources=(image charts cli k8s tsp tspctl.py hatch_build.py pyproject.toml README.md LICENSE requirements.lock requirements-setup.lock .dockerignore)
  cd "$HERE/../../.." || exit
  mapfile -t sources < <(git ls-files --cached --others --exclude-standard -- "${sources[@]}")
  image=$PROJECT_IMAGE:e2e-$(digest_of "${sources[@]}" "$HERE/lib/images.sh")
  if ! buildah_run inspect "$image" >/dev/null 2>&1; then
    dependencies=$DEPENDENCIES_LABEL=$(digest_of image/Dockerfile image/install.sh image/requirements.lock requirements-setup.lock)
    make_room "$dependencies"
    build_base
    say "building image $image"
    trust
    bud "${TRUST[@]}" --label "$dependencies" --build-arg BASE_IMAGE=$BASE_IMAGE -f image/Dockerfile -t "$image" . >&2 ||
      die "building $image failed; the lines above say why"
  fi
  echo "$image"
)

# make_room DEPENDENCIES: for a version of the image; a few others with those stay, since each adds only megabytes to them
make_room() {
  local graph kept need=$UNCACHED_GIB
  graph=$(buildah_run info --format '{{.store.GraphRoot}}')
  mapfile -t kept < <(images_by_age --filter "reference=$PROJECT_IMAGE" --filter "label=$1" | head -n $((KEPT_IMAGES - 1)))
  ((${#kept[@]} == 0)) || need=$CACHED_GIB
  forget_old_images $PROJECT_IMAGE "${kept[@]}"
  need_space "$graph" "$need" "building the project's image"
}

# What installers in a build need to know of this machine: whom it trusts. Bound in, so that none of it is in the image.
trust() {
  local folder=$CACHE/trust authorities=/etc/ssl/certs/ca-certificates.crt
  mkdir -p "$folder"
  printf '[global]\ncert = %s\n' $authorities >"$folder/pip.conf"
  printf 'native-tls = true\n' >"$folder/uv.toml"
  TRUST=(-v "$authorities:$authorities:ro" -v "$folder/pip.conf:/etc/pip.conf:ro" -v "$folder/uv.toml:/etc/uv/uv.toml:ro")
}
