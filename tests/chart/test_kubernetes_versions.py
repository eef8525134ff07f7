"""Every object against the schemas of the Kubernetes versions that people run, and the operators': kubeconform judges.

Unknown fields are refused, and so is an object of which there is no schema.
"""

import copy
import json
import subprocess

import pytest

from scripts.chart_schemas import VERSIONS, closed, schema_folder
from tests.chart.conftest import go_tool
from tests.chart.variants import VARIANTS


@pytest.fixture(scope="module")
def kubeconform(tmp_path_factory):
    """``kubeconform(objects, version)``: what it says of each object that it does not find valid, by name."""
    program, schemas = go_tool("kubeconform"), schema_folder()
    where = f"{schemas}/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"

    def run(objects, version):
        command = [program, "-strict", "-output", "json", "-summary", "-schema-location", where]
        done = subprocess.run(
            [*command, "-kubernetes-version", version.removeprefix("v")],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
            capture_output=True,
            text=True,
            check=False,
        )
        report = json.loads(done.stdout)
        judged = report["summary"]
        assert (sum(judged.values()), judged["skipped"]) == (len(objects), 0), done.stderr
        assert done.returncode == bool(judged["invalid"] or judged["errors"])
        return {f"{item['kind']} {item['name']}": item["msg"] for item in report["resources"]}

    return run


@pytest.fixture(scope="module")
def objects(render):
    """Everything that the chart can render, under names of their own; a Pod of each template beside its owner."""
    found = []
    for number, values in enumerate(VARIANTS.values()):
        rendered = render(name=f"v{number}", **values)
        found += rendered.objects
        for index, template in enumerate(rendered.templates):
            metadata = {**(template.get("metadata") or {}), "name": f"v{number}-pod-{index}"}
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    assert {"PyTorchJob", "TrainJob", "TrainingRuntime", "Job", "Pod"} <= {item["kind"] for item in found}
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_and_the_operators_know_every_field_of_every_object(kubeconform, objects, version):
    assert kubeconform(objects, version) == {}


def pods_of(item):
    """Pod specs in an object, wherever they lie."""
    if isinstance(item, list):
        return [spec for part in item for spec in pods_of(part)]
    if not isinstance(item, dict):
        return []
    return [item] if "containers" in item else [spec for part in item.values() for spec in pods_of(part)]


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainingRuntime", "Job", "Pod"])
@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_a_misspelt_field_of_a_pod_is_seen_wherever_it_lies(kubeconform, objects, kind, version):
    spoilt = copy.deepcopy(next(item for item in objects if item["kind"] == kind))
    pods_of(spoilt)[0]["containers"][0]["imagePullPolcy"] = "Always"
    (message,) = kubeconform([spoilt], version).values()
    assert "imagePullPolcy" in message


@pytest.mark.parametrize(("kind", "path"), [("TrainJob", "spec"), ("PyTorchJob", "spec"), ("ServiceAccount", "")])
def test_a_misspelt_field_of_an_object_is_seen(kubeconform, objects, kind, path):
    spoilt = copy.deepcopy(next(item for item in objects if item["kind"] == kind))
    (spoilt[path] if path else spoilt)["suspnd"] = True
    (message,) = kubeconform([spoilt], VERSIONS[0]).values()
    assert "suspnd" in message


def test_a_kind_without_a_schema_is_an_error(kubeconform):
    spoilt = {"apiVersion": "kubeflow.org/v1", "kind": "TFJob", "metadata": {"name": "a"}}
    (message,) = kubeconform([spoilt], VERSIONS[0]).values()
    assert "could not find schema" in message


def test_a_schema_is_closed_but_where_the_api_server_keeps_unknown_fields():
    open_part = {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True}
    schema = closed({"type": "object", "properties": {"a": open_part}})
    assert (schema["additionalProperties"], schema["properties"]["a"]) == (False, open_part)
