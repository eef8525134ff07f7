"""Values, their schema and their README; rendered objects against the operator's own schema."""

import json
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml

from tests.chart.conftest import CHART, ENOUGH, HelmError

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def leaves(schema, prefix=""):
    """Dotted key -> schema of every value that is no group of values."""
    for key, item in schema["properties"].items():
        if "properties" in item and "description" not in item:
            yield from leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def value_at(key):
    here = VALUES
    for step in key.split("."):
        here = here[step]
    return here


def keys_of(values, schema, prefix=""):
    for key, item in values.items():
        inner = schema["properties"].get(key, {})
        if "properties" in inner and "description" not in inner:
            yield from keys_of(item, inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_value_has_a_default_and_every_default_a_schema():
    assert list(keys_of(VALUES, SCHEMA)) == [key for key, _ in leaves(SCHEMA)]
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES)


def test_the_schema_is_closed_at_every_level():
    def check(schema, where):
        assert schema.get("additionalProperties") is False, where
        for key, item in schema["properties"].items():
            if "properties" in item:
                check(item, f"{where}.{key}")

    check(SCHEMA, "values")


@pytest.mark.parametrize(
    "key", ["gpu", "store.url", "image.name", "store.secretKeys.token", "shm.size", "resources.limit"]
)
def test_helm_refuses_a_misspelt_value(render, key):
    group, _, leaf = key.rpartition(".")
    values = {leaf: "x"}
    for step in reversed(group.split(".") if group else []):
        values = {step: values}
    with pytest.raises(HelmError, match=f"additional properties '{leaf}' not allowed"):
        render(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"gpus": 0},
        {"gpus": "two"},
        {"method": "tsp2"},
        {"downscale": 3},
        {"epochs": 0},
        {"job": {"kind": "bake"}},
        {"image": {"digest": "sha256:abc"}},
        {"shm": {"sizeLimit": "lots"}},
        {"store": {"existingSecret": "Not A Name"}},
        {"set": {"optim": {"head_lr": 1}}},
        *(
            {group: {key: value}}
            for group in ("labels", "podLabels", "nodeSelector")
            for key, value in (
                ("a", "b c"),
                ("a", "-b"),
                ("a", "x" * 64),
                ("", "b"),
                ("a b", "c"),
                ("/a", "b"),
                ("A.example/a", "b"),
            )
        ),
        {"annotations": {"a b": "c"}},
        {"podAnnotations": {"": "c"}},
    ],
)
def test_helm_refuses_a_value_that_cannot_be(render, values):
    with pytest.raises(HelmError, match="don't meet the specifications"):
        render(**values)


def test_labels_may_be_all_that_kubernetes_takes(render):
    """Nobody looks at those of pods until they are made."""
    labels = {"a": "", "example.com/A_b.c-1": "X_y.z-0", "n": 1, "b": True, "x" * 63: "y" * 63}
    made = render(labels=labels, podLabels=labels, nodeSelector=labels, podAnnotations={"Example.com/a": "any thing"})
    assert made.pod["nodeSelector"].items() >= {"a": "", "n": "1", "b": "true", "x" * 63: "y" * 63}.items()


def test_no_value_is_meant_for_a_credential():
    names = [key for key, _ in leaves(SCHEMA) if re.search("password|token|secret|credential", key, re.IGNORECASE)]
    assert [key for key in names if not key.startswith("store.secretKeys.")] == [
        "store.existingSecret",
        "image.pullSecrets",
    ]


def test_the_readme_describes_every_value_with_its_default():
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| (.+) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert [key for key, _, _ in rows] == [key for key, _ in leaves(SCHEMA)]
    described = dict(leaves(SCHEMA))
    for key, default, description in rows:
        assert description == described[key]["description"]
        if default != "see values.yaml":
            assert json.loads(default.strip("`")) == value_at(key), key


def test_the_chart_passes_lint(helm):
    settings = "dataset=thumos14,method=tac,gpus=8,store.uri=s3://b"
    command = [helm, "lint", "--strict", CHART, "--kube-version", "1.32.0", "--set", settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_notes_name_the_next_commands(helm, tmp_path):
    """NOTES.txt renders only on installing, so a copy of it stands in for a manifest here."""
    copy_of_chart = tmp_path / "tsp"
    shutil.copytree(CHART, copy_of_chart)
    notes = (copy_of_chart / "templates" / "NOTES.txt").read_text()
    indented = '{{ define "notes" }}' + notes + '{{ end }}\nnotes: {{ include "notes" . | quote }}\n'
    (copy_of_chart / "templates" / "notes.yaml").write_text(indented)
    command = [helm, "template", "my-run", copy_of_chart, "-n", "video", "-s", "templates/notes.yaml", "-f", "-"]
    values = {**ENOUGH, "gpuMemory": "16384"}
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=True)
    text = yaml.safe_load(done.stdout)["notes"]
    assert "tspctl logs -f my-run -n video" in text
    assert "tspctl fetch-best my-run -n video" in text
    assert "helm test my-run -n video" in text
    assert "Downscale: gpuMemory is 16384 MiB, so the downscale factor is 2." in text
    assert "names no registry: nodes without the image will look for it on Docker Hub (set image.repository)" in text
    assert "Data set thumos14 has no folder, so the pods will end with exit code 2: set data.uri or data.claim." in text
    for others in ({"data": {"claim": "videos"}}, {"data": {"uri": "s3://b/x"}}, {"dataset": "/data/ours.yaml"}):
        done = subprocess.run(
            command, input=json.dumps({**values, **others}), capture_output=True, text=True, check=True
        )
        assert "has no folder" not in done.stdout
    for repository in ("registry.example/team/tspctl", "localhost/tspctl", "registry:5000/tspctl"):
        named = json.dumps({**values, "image": {"repository": repository}})
        done = subprocess.run(command, input=named, capture_output=True, text=True, check=True)
        assert "names no registry" not in done.stdout


@pytest.mark.parametrize(
    "key",
    [
        "runPolicy.activeDeadlineSeconds",
        "runPolicy.ttlSecondsAfterFinished",
        "runPolicy.backoffLimit",
        "job.backoffLimit",
    ],
)
def test_a_number_that_kubernetes_cannot_store_is_refused_by_name(render, key):
    group, leaf = key.split(".")
    with pytest.raises(HelmError, match=f"/{group}/{leaf}': maximum"):
        render(**{group: {leaf: 2**31}})
