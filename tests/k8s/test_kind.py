"""What the end-to-end tests bring to a kind cluster: the operator's manifests, as tests/e2e/kind.sh changes them."""

import os
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("TSPCTL_CACHE") or Path.home() / ".cache" / "tspctl")


@pytest.fixture(scope="module")
def manifests():
    """The objects that kind.sh would apply, by kind."""
    path = os.pathsep.join([os.environ["PATH"], str(CACHE / "bin"), "/usr/local/go/bin"])
    for program in ("kubectl", "go"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"no {program} here (make e2e builds kubectl)")
    command = [ROOT / "tests/e2e/kind.sh", "--manifests"]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    if "no such host" in done.stderr or "dial tcp" in done.stderr:
        pytest.skip(f"the operator's module is not here and cannot be fetched: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]


def test_every_object_is_one_that_kubernetes_accepts(manifests):
    known = [item for item in manifests if item["kind"] != "CustomResourceDefinition"]
    assert {"Deployment", "ConfigMap", "Service", "ServiceAccount", "ClusterRole"} <= {item["kind"] for item in known}
    for item in known:
        kubernetes_validate.validate(item, "1.34", strict=True)


def test_the_operator_is_the_released_one_with_the_init_container_that_the_restricted_standard_allows(manifests):
    (operator,) = [item for item in manifests if item["kind"] == "Deployment"]
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ghcr.io/kubeflow/training-v1/training-operator:v1.9.3"
    assert not [text for text in container["args"] if "localhost" in text]
    (config,) = [item for item in manifests if item["kind"] == "ConfigMap"]
    assert "runAsNonRoot: true" in config["data"]["initContainer.yaml"]
    (volume,) = [item for item in operator["spec"]["template"]["spec"]["volumes"] if item["name"] == "config"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]


def test_the_definitions_of_jobs_are_the_operators(manifests):
    names = {item["metadata"]["name"] for item in manifests if item["kind"] == "CustomResourceDefinition"}
    assert "pytorchjobs.kubeflow.org" in names
