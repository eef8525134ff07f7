"""Every value of the chart, one by one: set to something that is not its default, it shows where it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.conftest import APP_VERSION, Rendered
from tests.chart.test_schema import SCHEMA, leaves, value_at
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import to_json

JOB = {"job.kind": "extract", "job.request": '{"videos": "/v"}'}
CLAIM = {"data.claim": "videos"}
SECRET = {"store.existingSecret": "s3-login"}
AFFINITY = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
SPREAD = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}]
RESOURCES = {"requests": {"cpu": "4"}, "limits": {"memory": "32Gi"}}
CONFIG = to_json(
    resolve(load_dataset("demo"), "tac", name="my-run", store={"uri": "s3://whole"}, root="/d", overrides={"gpus": 8})
)


def request(rendered: Rendered) -> Any:
    return json.loads(rendered.config)["request"]


def at(*way: str) -> Callable[[Rendered], Any]:
    """What the pod's request says there."""

    def look(rendered: Rendered) -> Any:
        found = request(rendered)
        for step in way:
            found = found[step]
        return found

    return look


def env_names(rendered: Rendered) -> set[str]:
    return {item["name"] for item in rendered.container["env"]}


def env(name: str) -> Callable[[Rendered], Any]:
    def look(rendered: Rendered) -> Any:
        found = {item["name"]: item for item in rendered.container["env"]}[name]
        return found.get("value") or found["valueFrom"]["secretKeyRef"]

    return look


def volume(name: str) -> Callable[[Rendered], Any]:
    return lambda rendered: next(item for item in rendered.pod["volumes"] if item["name"] == name)


def mount(name: str) -> Callable[[Rendered], Any]:
    return lambda rendered: next(item for item in rendered.container["volumeMounts"] if item["name"] == name)


def pod(key: str) -> Callable[[Rendered], Any]:
    return lambda rendered: rendered.pod[key]


def container(key: str) -> Callable[[Rendered], Any]:
    return lambda rendered: rendered.container[key]


def policy(key: str) -> Callable[[Rendered], Any]:
    return lambda rendered: rendered["PyTorchJob"]["spec"]["runPolicy"][key]


def metadata(kind: str, key: str) -> Callable[[Rendered], Any]:
    return lambda rendered: rendered[kind]["metadata"][key]


def template(key: str) -> Callable[[Rendered], Any]:
    return lambda rendered: rendered.templates[0]["metadata"][key]


def workers(rendered: Rendered) -> Any:
    return rendered["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"]


def node_requirement(rendered: Rendered) -> Any:
    required = rendered.pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return required["nodeSelectorTerms"][0]["matchExpressions"][0]


def job(key: str) -> Callable[[Rendered], Any]:
    return lambda rendered: rendered["Job"]["spec"][key]


def requirement(key: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


VALUES: dict[str, tuple[Any, dict[str, Any], Callable[[Rendered], Any], Any]] = {
    # value -> what it is set to, values it needs beside it, where it shows, what shows there
    "dataset": ("activitynet", {}, at("dataset"), "activitynet"),
    "method": ("tsp", {}, at("method"), "tsp"),
    "gpus": (5, {}, workers, 4),
    "gpusPerPod": (4, {}, lambda rendered: rendered.container["resources"]["limits"]["nvidia.com/gpu"], "4"),
    "heads": ("region", {}, at("heads"), "region"),
    "gvf": ("avg", {}, at("gvf"), "avg"),
    "backbone": ("r3d_18", {}, at("set", "model.backbone"), "r3d_18"),
    "epochs": (3, {}, at("set", "schedule.epochs"), 3),
    "pretrained": ("none", {}, at("set", "model.pretrained"), "none"),
    "precision": ("bf16", {}, at("set", "model.precision"), "bf16"),
    "set": ({"optim.head_lr": "4e-3"}, {}, at("set"), {"optim.head_lr": "4e-3"}),
    "config": (CONFIG, {"gpus": 8, "dataset": "demo"}, lambda rendered: rendered.config, CONFIG),
    "downscale": ("4", {}, at("downscale"), "4"),
    "gpuMemory": ("16384", {}, at("downscale"), "2"),
    "lookupNodes": (True, {}, at("downscale"), "auto"),  # without a cluster; test_downscale has one
    "clusterName": ("east", {}, env("TSP_OWNER"), "namespace video of cluster east"),
    "plan.memoryLabel": (
        "gpu/mib", {"plan.memoryValues": ["16384"]}, node_requirement, requirement("gpu/mib", "16384"),
    ),
    "plan.memoryValues": (["8192"], {}, node_requirement, requirement("nvidia.com/gpu.memory", "8192")),
    "plan.computeMajors": (["8", "9"], {}, node_requirement, requirement("nvidia.com/gpu.compute.major", "8", "9")),
    "plan.note": ("as planned", {}, at("downscale"), "auto"),  # in NOTES.txt alone, as below
    "job.kind": ("gvf", {"job.request": "{}"}, lambda rendered: rendered.container["command"][-1], "gvf"),
    "job.api": ("trainjob", {}, lambda rendered: "TrainJob" in rendered and "PyTorchJob" not in rendered, True),
    "job.request": ('{"a": 1}', {"job.kind": "extract"}, lambda rendered: rendered.config.strip(), '{"a": 1}'),
    "job.shards": (7, JOB, job("completions"), 7),
    "job.gpu": (True, JOB, lambda rendered: rendered.container["resources"]["limits"], {"nvidia.com/gpu": "1"}),
    "job.backoffLimit": (2, JOB, job("backoffLimitPerIndex"), 2),
    "data.uri": ("s3://videos/x", {}, at("data"), "s3://videos/x"),
    "data.claim": ("videos", {}, volume("data"), {"name": "data", "persistentVolumeClaim": {"claimName": "videos"}}),
    "data.mountPath": ("/videos", CLAIM, lambda rendered: mount("data")(rendered)["mountPath"], "/videos"),
    "data.readOnly": (False, CLAIM, lambda rendered: mount("data")(rendered)["readOnly"], False),
    "store.uri": ("s3://other/x", {}, at("store", "uri"), "s3://other/x"),
    "store.endpointUrl": ("https://minio:9000", {}, at("store", "endpoint_url"), "https://minio:9000"),
    "store.region": ("eu-1", {}, at("store", "region"), "eu-1"),
    "store.pathStyle": (False, {}, at("store", "path_style"), False),
    "store.checksums": ("when_required", {}, at("store", "checksums"), "when_required"),
    "store.existingSecret": (
        "mine", {}, env("AWS_ACCESS_KEY_ID"), {"name": "mine", "key": "AWS_ACCESS_KEY_ID"},
    ),
    "store.secretKeys.accessKeyId": ("id", SECRET, env("AWS_ACCESS_KEY_ID"), {"name": "s3-login", "key": "id"}),
    "store.secretKeys.secretAccessKey": (
        "secret", SECRET, env("AWS_SECRET_ACCESS_KEY"), {"name": "s3-login", "key": "secret"},
    ),
    "store.secretKeys.sessionToken": (
        "token", SECRET, env("AWS_SESSION_TOKEN"), {"name": "s3-login", "key": "token", "optional": True},
    ),
    "store.caConfigMap": ("ca", {}, volume("store-ca"), {"name": "store-ca", "configMap": {"name": "ca"}}),
    "store.caKey": ("root.pem", {"store.caConfigMap": "ca"}, env("AWS_CA_BUNDLE"), "/etc/tsp-ca/root.pem"),
    "image.repository": ("registry/tsp", {}, container("image"), f"registry/tsp:{APP_VERSION}"),
    "image.tag": ("dev", {}, container("image"), "tspctl:dev"),
    "image.digest": ("sha256:" + "0" * 64, {}, container("image"), "tspctl@sha256:" + "0" * 64),
    "image.pullPolicy": ("Always", {}, container("imagePullPolicy"), "Always"),
    "image.pullSecrets": (["pull"], {}, pod("imagePullSecrets"), [{"name": "pull"}]),
    "gpuResource": ("a.com/gpu", {}, lambda rendered: rendered.container["resources"]["limits"], {"a.com/gpu": "1"}),
    "requireGpu": (False, {}, lambda rendered: "TSP_NEEDS_GPU" in env_names(rendered), False),
    "resources": (
        RESOURCES, {}, container("resources"),
        {"requests": {"cpu": "4"}, "limits": {"memory": "32Gi", "nvidia.com/gpu": "1"}},
    ),
    "numThreads": (4, {}, env("TSP_NUM_THREADS"), "4"),
    "shm.sizeLimit": ("16Gi", {}, lambda rendered: volume("shm")(rendered)["emptyDir"]["sizeLimit"], "16Gi"),
    "tmp.sizeLimit": ("1Gi", {}, lambda rendered: volume("tmp")(rendered)["emptyDir"], {"sizeLimit": "1Gi"}),
    "cache.claim": (
        "shared", {}, volume("cache"), {"name": "cache", "persistentVolumeClaim": {"claimName": "shared"}},
    ),
    "cache.sizeLimit": ("9Gi", {}, lambda rendered: volume("cache")(rendered)["emptyDir"], {"sizeLimit": "9Gi"}),
    "queue": (
        "team", {}, lambda rendered: metadata("PyTorchJob", "labels")(rendered)["kueue.x-k8s.io/queue-name"], "team",
    ),
    "gang": ("volcano", {}, policy("schedulingPolicy"), {"minAvailable": 8}),
    "keepTogether": (False, {}, lambda rendered: "affinity" in rendered.pod, False),
    "masterFirst": (False, {"keepTogether": False}, lambda found: "affinity" in found.templates[1]["spec"], False),
    "priorityClassName": ("high", {}, pod("priorityClassName"), "high"),
    "runtimeClassName": ("nvidia", {}, pod("runtimeClassName"), "nvidia"),
    "schedulerName": ("packing", {}, pod("schedulerName"), "packing"),
    "nodeSelector": ({"zone": "a"}, {}, pod("nodeSelector"), {"zone": "a"}),
    "tolerations": ([{"key": "x", "operator": "Exists"}], {}, pod("tolerations"), [{"key": "x", "operator": "Exists"}]),
    "affinity": (AFFINITY, {"keepTogether": False}, pod("affinity"), AFFINITY),
    "topologySpreadConstraints": (SPREAD, {}, pod("topologySpreadConstraints"), SPREAD),
    "runPolicy.suspend": (True, {}, policy("suspend"), True),
    "runPolicy.backoffLimit": (4, {}, policy("backoffLimit"), 4),
    "runPolicy.activeDeadlineSeconds": (60, {}, policy("activeDeadlineSeconds"), 60),
    "runPolicy.ttlSecondsAfterFinished": (0, {}, policy("ttlSecondsAfterFinished"), 0),
    "gracePeriodSeconds": (45, {}, pod("terminationGracePeriodSeconds"), 45),
    "extraEnv": ([{"name": "A", "value": "b"}], {}, env("A"), "b"),
    "extraEnvFrom": ([{"secretRef": {"name": "x"}}], {}, container("envFrom"), [{"secretRef": {"name": "x"}}]),
    "extraVolumes": ([{"name": "x", "emptyDir": {}}], {}, volume("x"), {"name": "x", "emptyDir": {}}),
    "extraVolumeMounts": ([{"name": "x", "mountPath": "/x"}], {}, mount("x"), {"name": "x", "mountPath": "/x"}),
    "labels": ({"team": "v"}, {}, lambda rendered: metadata("ConfigMap", "labels")(rendered)["team"], "v"),
    "annotations": ({"why": "x"}, {}, lambda rendered: metadata("PyTorchJob", "annotations")(rendered)["why"], "x"),
    "podLabels": ({"cost": "1"}, {}, lambda rendered: template("labels")(rendered)["cost"], "1"),
    "podAnnotations": ({"note": "x"}, {}, lambda rendered: template("annotations")(rendered)["note"], "x"),
    "serviceAccount.create": (False, {}, pod("serviceAccountName"), "default"),
    "serviceAccount.name": ("trainer", {}, metadata("ServiceAccount", "name"), "trainer"),
    "serviceAccount.annotations": ({"role": "w"}, {}, metadata("ServiceAccount", "annotations"), {"role": "w"}),
    "podSecurityContext": (
        {"runAsUser": 1234}, {}, lambda rendered: rendered.pod["securityContext"]["runAsUser"], 1234,
    ),
    "securityContext": (
        {"readOnlyRootFilesystem": False}, {},
        lambda rendered: rendered.container["securityContext"]["readOnlyRootFilesystem"], False,
    ),
}  # fmt: skip


def tree(dotted: dict[str, Any]) -> dict[str, Any]:
    """Nested values; those that are enough for a run are filled in."""
    found: dict[str, Any] = {}
    for key, value in {"store.uri": "s3://bucket/runs", **dotted}.items():
        *way, last = key.split(".")
        here = found
        for step in way:
            here = here.setdefault(step, {})
        here[last] = value
    return found


@pytest.mark.parametrize("key", VALUES)
def test_a_value_shows_where_it_should(render, key):
    given, beside, look, expected = VALUES[key]
    assert given != value_at(key)
    assert look(render(**tree({**beside, key: given}))) == expected


def test_no_value_is_left_out():
    assert list(VALUES) == [key for key, _ in leaves(SCHEMA)]
