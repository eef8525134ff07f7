"""What the end-to-end tests bring to a kind cluster: the controllers' manifests, as tests/e2e/kind.sh changes them."""

import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("TSPCTL_CACHE") or Path.home() / ".cache" / "tspctl")
PATH = os.pathsep.join([os.environ["PATH"], str(CACHE / "bin"), "/usr/local/go/bin"])
CONTROLLERS = {
    "operator": ("training-operator", "ghcr.io/kubeflow/training-v1/training-operator", "pytorchjobs.kubeflow.org"),
    "jobset": ("jobset", "registry.k8s.io/jobset/jobset", "jobsets.jobset.x-k8s.io"),
    "trainer": ("trainer", "ghcr.io/kubeflow/trainer/trainer-controller-manager", "trainjobs.trainer.kubeflow.org"),
    "kueue": ("kueue", "registry.k8s.io/kueue/kueue", "workloads.kueue.x-k8s.io"),
}
"""Its programs' folder, its image as released, a kind that it brings."""


@lru_cache
def manifests_of(controller):
    """The objects that kind.sh would apply."""
    for program in ("kubectl", "go"):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"no {program} here (make e2e builds kubectl)")
    command = [ROOT / "tests/e2e/kind.sh", "--manifests", controller]
    done = subprocess.run(command, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, check=False)
    if "no such host" in done.stderr or "dial tcp" in done.stderr:
        pytest.skip(f"the module of {controller} is not here and cannot be fetched: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_every_object_is_one_that_kubernetes_accepts(controller):
    found = manifests_of(controller)
    known = [item for item in found if item["kind"] != "CustomResourceDefinition"]
    assert {"Deployment", "Service", "ServiceAccount", "ClusterRole"} <= {item["kind"] for item in known}
    for item in known:
        kubernetes_validate.validate(item, "1.34", strict=True)
    defined = {item["metadata"]["name"] for item in found if item["kind"] == "CustomResourceDefinition"}
    assert CONTROLLERS[controller][2] in defined


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_every_controller_is_the_released_one_of_the_version_that_our_own_cluster_runs(controller):
    program, image, _ = CONTROLLERS[controller]
    (deployment,) = [item for item in manifests_of(controller) if item["kind"] == "Deployment"]
    containers = deployment["spec"]["template"]["spec"]["containers"]
    modules = (ROOT / "tests/e2e/cluster/programs" / program / "go.mod").read_text()
    name, _, version = containers[0]["image"].rpartition(":")
    assert name == image
    assert re.search(rf"\S*{program}(/v2)? {re.escape(version)}\b", modules)
    assert "localhost" not in str([container.get("args") for container in containers])


def test_the_operator_has_the_init_container_that_the_restricted_standard_allows():
    found = manifests_of("operator")
    (operator,) = [item for item in found if item["kind"] == "Deployment"]
    (config,) = [item for item in found if item["kind"] == "ConfigMap"]
    assert "runAsNonRoot: true" in config["data"]["initContainer.yaml"]
    (volume,) = [item for item in operator["spec"]["template"]["spec"]["volumes"] if item["name"] == "config"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]


def test_a_controller_that_is_none_is_refused():
    done = subprocess.run(
        [ROOT / "tests/e2e/kind.sh", "--manifests", "nothing"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "no controller nothing" in done.stderr
