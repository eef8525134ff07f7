"""What is text to Kubernetes stays text, whatever YAML or --set take it for."""

import json
import re
import subprocess

import pytest
import yaml

from tests.chart.conftest import CHART, ENOUGH, enough

WHOLE = {"name": "r1", "gpus": 8, "store": {}}
LOOKS_LIKE_SOMETHING_ELSE = ("off", "yes", "null", "true", "1e3", "010", "2024", "0x10", "1-1", "2024-01-01")


@pytest.fixture
def texts(helm):
    """Every scalar of a rendered release, by its path."""

    def render(name, values, *flags):
        command = [helm, "template", name, str(CHART), "--namespace", "video", "-f", "-", *flags]
        done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]

    return render


@pytest.mark.parametrize("name", ["off", "no", "y", "true", "null", "e1"])
def test_a_run_may_be_called_as_yaml_calls_something_else(texts, name):
    for item in texts(name, ENOUGH):
        assert isinstance(item["metadata"]["name"], str)
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == name


@pytest.mark.parametrize("text", LOOKS_LIKE_SOMETHING_ELSE)
def test_names_of_other_objects_stay_text(texts, text):
    values = {
        **ENOUGH,
        "store": {"uri": "s3://b/r", "existingSecret": text, "caConfigMap": text},
        "data": {"claim": text},
        "cache": {"claim": text},
        "image": {"repository": "r", "tag": text, "pullSecrets": [text]},
        "queue": text,
        "priorityClassName": text,
        "runtimeClassName": text,
        "schedulerName": text,
        "serviceAccount": {"name": text},
        "labels": {"a": text},
        "podLabels": {"b": text},
        "annotations": {"c": text},
        "podAnnotations": {"d": text},
        "nodeSelector": {"e": text},
        "tolerations": [{"key": "k", "value": text}],
        "extraEnv": [{"name": "N", "value": text}],
    }
    job = next(item for item in texts("r1", values) if item["kind"] == "PyTorchJob")
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    spec = pod["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    env = {item["name"]: item for item in spec["containers"][0]["env"]}
    found = [
        volumes["data"]["persistentVolumeClaim"]["claimName"], volumes["cache"]["persistentVolumeClaim"]["claimName"],
        volumes["store-ca"]["configMap"]["name"], spec["imagePullSecrets"][0]["name"], spec["priorityClassName"],
        spec["runtimeClassName"], spec["schedulerName"], spec["serviceAccountName"], spec["nodeSelector"]["e"],
        spec["tolerations"][0]["value"], env["N"]["value"], pod["metadata"]["labels"]["b"],
        pod["metadata"]["annotations"]["d"], job["metadata"]["labels"]["a"], job["metadata"]["annotations"]["c"],
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"],
    ]  # fmt: skip
    assert found == [text] * len(found)
    assert isinstance(env["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"]["name"], str)


def test_what_set_takes_for_a_boolean_or_a_number_is_text_where_kubernetes_wants_it(texts):
    flags = ("--set", "nodeSelector.gpu=true,nodeSelector.zone=7,labels.team=12345678,podLabels.on=false")
    flags += ("--set", "tolerations[0].key=a,tolerations[0].value=true,extraEnv[0].name=N,extraEnv[0].value=1")
    job = next(item for item in texts("r1", ENOUGH, *flags) if item["kind"] == "PyTorchJob")
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    assert pod["spec"]["nodeSelector"] == {"gpu": "true", "zone": "7"}
    assert job["metadata"]["labels"]["team"] == "12345678"
    assert pod["metadata"]["labels"]["on"] == "false"
    assert pod["spec"]["tolerations"] == [{"key": "a", "value": "true"}]
    assert {"name": "N", "value": "1"} in pod["spec"]["containers"][0]["env"]


def test_the_test_hook_is_never_called_as_another_run_may_be(texts):
    (hook,) = [item for item in texts("tsp", ENOUGH) if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    assert hook["metadata"]["name"].startswith("tsp-test-")
    assert hook["metadata"]["name"] != "tsp-test"


@pytest.mark.parametrize(
    ("values", "requests"),
    [
        ({}, {"cpu": "5", "memory": "10240Mi"}),
        ({"set": {"data.workers": 8}, "shm": {"sizeLimit": "16Gi"}}, {"cpu": "9", "memory": "18432Mi"}),
        ({"config": json.dumps({**WHOLE, "data": {"workers": 2}})}, {"cpu": "3", "memory": "10240Mi"}),
        ({"resources": {"requests": {"cpu": "1"}}}, {"cpu": "1", "memory": "10240Mi"}),
        ({"resources": {"limits": {"memory": "20Gi", "cpu": "4"}}}, {}),
    ],
)  # fmt: skip
def test_a_rank_asks_for_a_cpu_for_each_worker_and_memory_for_its_shm(texts, values, requests):
    job = next(item for item in texts("r1", {**ENOUGH, **values}) if item["kind"] == "PyTorchJob")
    container = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == requests


@pytest.mark.parametrize("job", [{}, {"job": {"kind": "extract", "request": "{}"}}], ids=["training", "job"])
def test_a_chart_that_was_packaged_with_a_build_in_its_version_has_labels_that_kubernetes_takes(helm, tmp_path, job):
    """``helm package --version 0.3.0+a1b2c3d``; Kubernetes takes no plus sign."""
    package = [helm, "package", str(CHART), "--destination", tmp_path, "--version", "0.3.0+a1b2c3d"]
    subprocess.run([*package, "--app-version", f"0.3.0+{'a' * 60}"], check=True, capture_output=True)
    values = json.dumps({**enough(job), **job, "image": {"tag": "1"}})
    command = [helm, "template", "r1", next(tmp_path.glob("*.tgz")), "-f", "-"]
    done = subprocess.run(command, input=values, text=True, check=True, capture_output=True)
    found = [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]
    labels = [value for item in found for value in item["metadata"]["labels"].values()]
    assert "tsp-0.3.0_a1b2c3d" in labels
    assert [text for text in labels if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", text)] == []
