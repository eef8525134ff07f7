"""Names, labels and annotations that the chart writes and tspctl reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PART_OF = "app.kubernetes.io/part-of=tspctl"
"""Selector of everything tspctl's chart made."""
RUN_LABEL = "app.kubernetes.io/instance"
KIND_LABEL = "app.kubernetes.io/component"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
STORE_ANNOTATION = "tspctl/store"
STOPPED_ANNOTATION = "tspctl/stopped"
"""``cancelled`` or ``suspended``, where a user stopped the run; Kueue suspends without it."""

KUEUE_VERSIONS = ("kueue.x-k8s.io/v1beta1", "kueue.x-k8s.io/v1beta2")
"""Those a cluster may serve, one or both."""
PYTORCHJOBS = ("kubeflow.org/v1", "pytorchjobs")
JOBS = ("batch/v1", "jobs")

MAIN_CONTAINERS = ("pytorch", "tsp")
"""Names that the chart gives: the training operator insists on the first, jobs have the second."""
GPU_RESOURCE_ANNOTATION = "tspctl/gpu-resource"
MEMORY_LABEL_ANNOTATION = "tspctl/memory-label"

_REPLICA_TYPE = "training.kubeflow.org/replica-type"
_REPLICA_INDEX = "training.kubeflow.org/replica-index"
_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
_JOB_NAME = ("training.kubeflow.org/job-name", "batch.kubernetes.io/job-name")


def pod_selector(name: str) -> str:
    """Selector of the pods of a run or job. ``owner_of`` tells those of its ``helm test`` apart."""
    return f"{PART_OF},{RUN_LABEL}={name}"


def owner_of(pod: Mapping[str, Any]) -> str | None:
    """Name of the PyTorchJob or Job a pod belongs to."""
    labels = pod["metadata"].get("labels", {})
    return next((str(labels[key]) for key in _JOB_NAME if key in labels), None)


def rank_of(pod: Mapping[str, Any]) -> int:
    """Rank of a PyTorchJob's pod (master 0, worker i is i + 1), index of a Job's."""
    labels = pod["metadata"].get("labels", {})
    if _COMPLETION_INDEX in labels:
        return int(labels[_COMPLETION_INDEX])
    index = int(labels.get(_REPLICA_INDEX, 0))
    return index + 1 if labels.get(_REPLICA_TYPE) == "worker" else index


def is_of_run(item: Mapping[str, Any], name: str) -> bool:
    """Whether an object belongs to that run: by its labels, whatever it is called."""
    labels = item["metadata"].get("labels") or {}
    key, _, value = PART_OF.partition("=")
    return labels.get(key) == value and labels.get(RUN_LABEL) == name


def is_hook(item: Mapping[str, Any]) -> bool:
    """Whether it is what ``helm test`` made, and no run."""
    return "helm.sh/hook" in (item["metadata"].get("annotations") or {})


def kind_of(job: Mapping[str, Any]) -> str:
    """``train``, ``extract``, ...: what a PyTorchJob or Job does."""
    return str(job["metadata"].get("labels", {}).get(KIND_LABEL, "train"))


def pod_template_of(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Template of a job's pods; a PyTorchJob's master and workers have the same."""
    spec = job["spec"]
    replicas = spec.get("pytorchReplicaSpecs") or {}
    found: Mapping[str, Any] = (replicas.get("Master") or spec).get("template") or {}
    return found


def main_container_of(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The container of a pod that the chart made, whatever stands beside it: sidecars come first as often as last.

    Args: pod, with metadata, or a template; of a bare spec the one that has the chart's name.
    """
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    names = (annotations.get("kubectl.kubernetes.io/default-container"), *MAIN_CONTAINERS)
    containers = (pod.get("spec") or pod).get("containers") or [{}]
    found: Mapping[str, Any] = next(
        (item for name in names if name for item in containers if item.get("name") == name), containers[0]
    )
    return found


def configmaps_of(job: Mapping[str, Any]) -> list[str]:
    """ConfigMaps that a job's pods mount."""
    volumes = (pod_template_of(job).get("spec") or {}).get("volumes") or []
    return [str(item["configMap"]["name"]) for item in volumes if "configMap" in item]


def ranks_of(job: Mapping[str, Any]) -> int:
    """Pods a PyTorchJob or Job wants."""
    spec = job["spec"]
    if "pytorchReplicaSpecs" in spec:
        return sum(int(item.get("replicas", 1)) for item in spec["pytorchReplicaSpecs"].values())
    return int(spec.get("completions", 1))
