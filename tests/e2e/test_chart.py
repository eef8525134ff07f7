"""Every object that the chart can render, judged by the API server: schema, operator's webhook, security standard."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.kubectl import Kubectl, wait_for

pytestmark = pytest.mark.e2e

CHART = Path(__file__).resolve().parents[2] / "charts" / "tsp"
ENOUGH: dict[str, Any] = {"dataset": "thumos14", "method": "tac", "gpus": 2, "store": {"uri": "s3://bucket/runs"}}
REQUEST = json.dumps({"source": "/data/raw", "dest": "/data/videos"})
EVERYTHING: dict[str, Any] = {
    "heads": "action", "gvf": "none", "backbone": "r3d_18", "epochs": 3, "pretrained": "none", "precision": "bf16",
    "set": {"optim.head_lr": 4e-3}, "gpuMemory": "16384",
    "plan": {"memoryValues": ["16384"], "note": "by hand"},
    "data": {"uri": "/data/thumos14", "claim": "videos", "mountPath": "/data"},
    "store": {
        "uri": "s3://bucket/runs", "endpointUrl": "https://s3.example", "region": "eu-1", "existingSecret": "s3-login",
        "caConfigMap": "authority",
    },
    "image": {"repository": "registry.example/tspctl", "digest": "sha256:" + "0" * 64, "pullSecrets": ["registry"]},
    "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "32Gi"}},
    "numThreads": 4, "tmp": {"sizeLimit": "10Gi"}, "cache": {"sizeLimit": "100Gi"},
    "queue": "team-a", "priorityClassName": "high", "runtimeClassName": "nvidia", "schedulerName": "default-scheduler",
    "nodeSelector": {"zone": "a"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname",
                                          "labelSelector": {"matchLabels": {"app": "other"}}}}]}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
         "labelSelector": {"matchLabels": {"app.kubernetes.io/part-of": "tspctl"}}}],
    "runPolicy": {"suspend": True, "backoffLimit": 3, "activeDeadlineSeconds": 600, "ttlSecondsAfterFinished": 60},
    "extraEnv": [{"name": "NCCL_DEBUG", "value": "INFO"}], "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "scratch", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    "labels": {"team": "video"}, "annotations": {"why": "a test"}, "podLabels": {"cost": "1"},
    "podAnnotations": {"note": "x"}, "serviceAccount": {"annotations": {"role": "s3-writer"}},
}  # fmt: skip
OF_TRAINING = (
    "heads", "gvf", "backbone", "epochs", "pretrained", "precision", "set", "gpuMemory", "data", "runPolicy",
)  # fmt: skip
CASES = {
    **{f"{method}-{dataset}": {"method": method, "dataset": dataset, "gpus": 8}
       for method in ("tsp", "tac") for dataset in ("activitynet", "thumos14")},
    **{f"{gpus}-gpus": {"gpus": gpus} for gpus in (1, 2, 64)},
    "4-pods-of-2": {"gpus": 8, "gpusPerPod": 2},
    "gang": {"gang": "volcano"},
    "cpu": {"gpuResource": ""},
    "every-option": EVERYTHING,
    "shared-cache": {"cache": {"claim": "cache"}, "serviceAccount": {"create": False}},
    **{f"{kind}-job": {"job": {"kind": kind, "request": REQUEST, "shards": 4, "gpu": kind != "standardize"}}
       for kind in ("extract", "gvf", "standardize")},
    "every-option-of-a-job": {
        **{key: value for key, value in EVERYTHING.items() if key not in OF_TRAINING},
        "data": {"claim": "videos"},
        "job": {"kind": "extract", "request": REQUEST, "shards": 3, "gpu": True, "backoffLimit": 2},
        "runPolicy": {"suspend": True, "activeDeadlineSeconds": 600, "ttlSecondsAfterFinished": 60},
    },
}  # fmt: skip


TRAINJOBS: dict[str, dict[str, Any]] = {
    **{f"{gpus}-gpus": {"gpus": gpus} for gpus in (1, 2, 64)},
    "4-pods-of-2": {"gpus": 8, "gpusPerPod": 2},
    **{gang: {"gang": gang} for gang in ("volcano", "coscheduling")},
    "every-option": {
        **EVERYTHING, "gpus": 8, "gpusPerPod": 4,
        "runPolicy": {"suspend": True, "backoffLimit": 3, "activeDeadlineSeconds": 600},
    },
}  # fmt: skip
JUDGE = ("create", "--dry-run=server", "--validate=strict", "-f", "-")


@pytest.mark.parametrize("case", TRAINJOBS)
def test_kubeflow_trainer_takes_every_object_of(kubectl: Kubectl, helm: str, trainer: None, case: str):
    values = {**ENOUGH, **TRAINJOBS[case], "job": {"api": "trainjob"}}
    command = [helm, "template", "judged", str(CHART), "--namespace", str(kubectl.namespace), "-f", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = objects_in(done.stdout)
    (runtime,) = [item for item in objects if item["kind"] == "TrainingRuntime"]
    (job,) = [item for item in objects if item["kind"] == "TrainJob"]
    kubectl.run("create", "--validate=strict", "-f", "-", stdin=json.dumps(runtime))

    def judged() -> bool:
        # the webhook knows the runtime a moment later
        answer = kubectl.try_run(*JUDGE, stdin=json.dumps(job))
        assert answer.returncode == 0 or "must be created before" in answer.stderr, answer.stderr
        return answer.returncode == 0

    wait_for(judged, what="TrainJob that is taken")
    judge_pods(kubectl, objects)


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_every_object_of(kubectl: Kubectl, helm: str, case: str):
    enough = {"store": ENOUGH["store"]} if "job" in CASES[case] else ENOUGH
    values = {**enough, **CASES[case]}
    command = [helm, "template", "judged", str(CHART), "--namespace", str(kubectl.namespace), "-f", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = objects_in(done.stdout)
    assert len(objects) >= (3 if case == "shared-cache" else 4), "job, ConfigMap, account and the test are expected"
    judged = kubectl.try_run(*JUDGE, stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    assert judged.returncode == 0, judged.stderr
    assert "Warning" not in judged.stderr, judged.stderr  # the security standard warns of pod templates
    judge_pods(kubectl, objects)


def objects_in(manifest: str) -> list[dict[str, Any]]:
    """Objects of a manifest, those of its lists among them."""
    found = [item for item in yaml.safe_load_all(manifest) if item]
    return [one for item in found for one in (item["items"] if item["kind"] == "List" else [item])]


def judge_pods(kubectl: Kubectl, objects: list[dict[str, Any]]) -> None:
    """Pods come from the job's controller later: here each template stands for one."""
    for index, template in enumerate(pod_templates(objects)):
        of_other_clusters = ("serviceAccountName", "priorityClassName", "runtimeClassName")
        spec = {key: value for key, value in template["spec"].items() if key not in of_other_clusters}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"judged-{index}"}}
        pod["spec"] = {**spec, "restartPolicy": "Never"}
        judged = kubectl.try_run(*JUDGE, stdin=json.dumps(pod))
        assert judged.returncode == 0, judged.stderr


def pod_templates(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Templates of all pods: master, workers, shards, the test."""
    found = []
    for item in objects:
        if item["kind"] == "PyTorchJob":
            found += [spec["template"] for spec in item["spec"]["pytorchReplicaSpecs"].values()]
        elif item["kind"] == "TrainingRuntime":
            jobs = item["spec"]["template"]["spec"]["replicatedJobs"]
            found += [job["template"]["spec"]["template"] for job in jobs]
        elif item["kind"] == "Job":
            found.append(item["spec"]["template"])
    return found


def test_an_object_with_a_misspelt_field_would_not_pass(kubectl: Kubectl):
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "misspelt"},
        "spec": {"templat": {}, "template": {"spec": {"restartPolicy": "Never", "containers": []}}},
    }  # fmt: skip
    judged = kubectl.try_run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(job))
    assert judged.returncode != 0
    assert 'unknown field "spec.templat"' in judged.stderr
