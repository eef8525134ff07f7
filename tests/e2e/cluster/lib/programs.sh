# shellcheck shell=bash
# The programs that Debian does not have, built from their Go modules, once per version of programs/*/go.mod.

OPERATOR_MANIFESTS=$CACHE/programs/training-operator-manifests-v$OPERATOR_VERSION

# build_module MODULE LDFLAGS PACKAGE...: into $CACHE/programs/MODULE-<digest of go.mod and go.sum>, linked from $BIN
build_module() {
  local module=$1 ldflags=$2 folder
  shift 2
  folder=$CACHE/programs/$module-$(digest_of "$HERE/programs/$module/go.mod" "$HERE/programs/$module/go.sum")
  if [[ ! -d $folder ]]; then
    say "building $module ($# programs)"
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    (cd "$HERE/programs/$module" &&
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
  [[ -d $OPERATOR_MANIFESTS ]] || cp -r "$(operator_module)/manifests" "$OPERATOR_MANIFESTS"
}

# operator_module: the folder that go has unpacked it to
operator_module() (cd "$HERE/programs/training-operator" && go list -m -f '{{.Dir}}' github.com/kubeflow/training-operator)
