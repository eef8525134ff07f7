# shellcheck shell=bash
# The programs that Debian does not have, built from their Go modules, once per version of programs/*/go.mod.

OPERATOR_MANIFESTS=$CACHE/programs/training-operator-manifests-v$OPERATOR_VERSION
TRAINER_MANIFESTS=$CACHE/programs/trainer-manifests-v$TRAINER_VERSION
JOBSET_MANIFESTS=$CACHE/programs/jobset-manifests-v$JOBSET_VERSION
KUEUE_MANIFESTS=$CACHE/programs/kueue-manifests-v$KUEUE_VERSION
GANG_MANIFESTS=$CACHE/programs/scheduler-plugins-manifests-v$GANG_SCHEDULER_VERSION

# build_module MODULE LDFLAGS PACKAGE...: into $CACHE/programs/MODULE-<digest of its files>, linked from $BIN
build_module() {
  local module=$1 ldflags=$2 folder
  shift 2
  folder=$CACHE/programs/$module-$(digest_of "$HERE/programs/$module"/*)
  if [[ ! -d $folder ]]; then
    need_space "$(go env GOCACHE)" "$PROGRAMS_GIB" "building $module"
    say "building $module ($# programs)"
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    (cd "$HERE/programs/$module" && persist go mod download &&
      CGO_ENABLED=0 nice -n 10 go build -mod=readonly -trimpath -ldflags "-s -w $ldflags" -o "$folder.part/" "$@") ||
      die "go build of $module failed"
    mv "$folder.part" "$folder"
  fi
  mkdir -p "$BIN"
  ln -sf "$folder"/* "$BIN/"
}

build_programs() {
  command -v go >/dev/null || die "no go here: install Go 1.24 or newer"
  local version=k8s.io/component-base/version kubernetes=k8s.io/kubernetes/cmd
  "$HERE/../../../scripts/go_tool.sh" helm >/dev/null
  build_module kubernetes "-X $version.gitVersion=v$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=33" \
    $kubernetes/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
  build_module training-operator "" github.com/kubeflow/training-operator/cmd/training-operator.v1
  build_module trainer "" github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager
  build_module jobset "" sigs.k8s.io/jobset
  build_module kueue "" sigs.k8s.io/kueue/cmd/kueue
  keep_manifests training-operator github.com/kubeflow/training-operator manifests "$OPERATOR_MANIFESTS"
  keep_manifests trainer github.com/kubeflow/trainer/v2 manifests "$TRAINER_MANIFESTS"
  keep_manifests jobset sigs.k8s.io/jobset config "$JOBSET_MANIFESTS"
  keep_manifests kueue sigs.k8s.io/kueue config "$KUEUE_MANIFESTS"
}

# The scheduler of gangs, apart from the others: only `make e2e-all` needs it
build_gang_scheduler() {
  build_module scheduler-plugins "" sigs.k8s.io/scheduler-plugins/cmd/scheduler
  keep_manifests scheduler-plugins sigs.k8s.io/scheduler-plugins manifests "$GANG_MANIFESTS"
}

# The registry, in a minute: only the tests that need digests start it
build_registry() { build_module registry "" .; }

# keep_manifests PROGRAMS MODULE FOLDER TARGET: a module's own manifests, from where go has unpacked it
keep_manifests() {
  local folder
  [[ ! -d $4 ]] || return 0
  folder=$(cd "$HERE/programs/$1" && go list -m -f '{{.Dir}}' "$2")
  cp -r "$folder/$3" "$4"
}
