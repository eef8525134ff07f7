"""Objects as the API server shows them, with only the fields a test is about."""

from __future__ import annotations

from typing import Any


def job(*conditions: str, suspend: bool = False, gpus: int = 2, name: str = "my-run", **more: Any) -> dict[str, Any]:
    """A PyTorchJob; conditions are given as ``Running`` or ``Running=False``."""
    replicas: dict[str, Any] = {"Master": {"replicas": 1}}
    if gpus > 1:
        replicas["Worker"] = {"replicas": gpus - 1}
    labels = {
        "app.kubernetes.io/part-of": "tspctl",
        "app.kubernetes.io/component": "train",
        "app.kubernetes.io/instance": name,
        **more.pop("labels", {}),
    }
    return {
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": more.pop("annotations", {}),
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": {"runPolicy": {"suspend": suspend}, "pytorchReplicaSpecs": replicas},
        "status": {"conditions": [condition(text, **more) for text in conditions]},
    }


def train_job(
    *conditions: str, suspend: bool = False, gpus: int = 2, name: str = "my-run", ready: int = 0, **more: Any
) -> dict[str, Any]:
    """A TrainJob; conditions as ``job``, ready counts its child Job."""
    found = job(*conditions, gpus=gpus, name=name, **more)
    reference = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": name}
    found["spec"] = {"runtimeRef": reference, "suspend": suspend, "trainer": {"numNodes": gpus}}
    if ready or conditions:
        found["status"]["jobsStatus"] = [{"name": "node", "ready": ready, "active": 1}]
    return found


def node_pod(rank: int = 0, phase: str = "Running", *, restarts: int = 0, **more: Any) -> dict[str, Any]:
    """A pod of a TrainJob; keywords as ``pod``, restarts are JobSet's."""
    found = pod(rank, phase, **more)
    found["metadata"]["name"] = f"my-run-node-0-{rank}-abcde"
    found["metadata"]["labels"] = {
        "jobset.sigs.k8s.io/jobset-name": "my-run",
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "jobset.sigs.k8s.io/restart-attempt": str(restarts),
        "batch.kubernetes.io/job-name": "my-run-node-0",
        "batch.kubernetes.io/job-completion-index": str(rank),
    }
    found["status"]["containerStatuses"][0]["name"] = "node"
    return found


def with_ranks(item: dict[str, Any], per_pod: int) -> dict[str, Any]:
    """A job or pod whose pods hold several ranks."""
    item["metadata"].setdefault("annotations", {})["tspctl/ranks-per-pod"] = str(per_pod)
    return item


def indexed_job(*conditions: str, suspend: bool = False, shards: int = 2, name: str = "my-job", **more: Any) -> Any:
    """An Indexed Job of the chart."""
    labels = {
        "app.kubernetes.io/part-of": "tspctl",
        "app.kubernetes.io/component": "extract",
        "app.kubernetes.io/instance": name,
    }
    return {
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": more.pop("annotations", {}),
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": {"suspend": suspend, "completions": shards},
        "status": {"conditions": [condition(text, **more) for text in conditions]},
    }


def shard(index: int = 0, phase: str = "Running", **more: Any) -> dict[str, Any]:
    """A pod of an Indexed Job; keywords as ``pod``."""
    found = pod(index, phase, **more)
    found["metadata"]["name"] = f"my-job-{index}-abcde"
    found["metadata"]["labels"] = {
        "batch.kubernetes.io/job-name": "my-job",
        "batch.kubernetes.io/job-completion-index": str(index),
    }
    return found


def condition(text: str, **more: Any) -> dict[str, Any]:
    kind, _, status = text.partition("=")
    return {"type": kind, "status": status or "True", "lastTransitionTime": "2030-01-01T01:00:00Z", **more}


def pod(rank: int = 0, phase: str = "Running", *, node: str | None = "node-a", **status: Any) -> dict[str, Any]:
    """A pod of a PyTorchJob; ``state`` and ``last`` are its container's."""
    kind, index = ("master", 0) if rank == 0 else ("worker", rank - 1)
    container: dict[str, Any] = {"name": "pytorch", "image": "tspctl:1", "restartCount": status.pop("restarts", 0)}
    container["state"] = status.pop("state", {"running": {}} if phase == "Running" else {})
    container["lastState"] = status.pop("last", {})
    metadata: dict[str, Any] = {
        "name": f"my-run-{kind}-{index}",
        "uid": f"uid-{rank}",
        "labels": {
            "training.kubeflow.org/job-name": "my-run",
            "training.kubeflow.org/replica-type": kind,
            "training.kubeflow.org/replica-index": str(index),
        },
    }
    if status.pop("deleting", False):
        metadata["deletionTimestamp"] = "2030-01-01T01:00:00Z"
    spec = {"nodeName": node} if node else {}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase, "containerStatuses": [container], **status}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(
    code: int, reason: str = "Error", message: str = "", finished: str = "2030-01-01T01:00:00Z"
) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": finished}}


def unschedulable(message: str, rank: int = 0) -> dict[str, Any]:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(rank, "Pending", node=None, conditions=[scheduled])


def event(reason: str, message: str, *, of: str = "my-run", at: str = "2030-01-01T01:00:00Z") -> dict[str, Any]:
    involved = {"name": of}
    return {"metadata": {}, "reason": reason, "message": message, "involvedObject": involved, "lastTimestamp": at}
