"""Names, labels and annotations that the chart writes and tspctl reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]
"""Of the API, as a plain dict."""

PART_OF = "app.kubernetes.io/part-of=tspctl"
"""Selector of everything tspctl's chart made."""
RUN_LABEL = "app.kubernetes.io/instance"
KIND_LABEL = "app.kubernetes.io/component"
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
"""Of Kueue's object for a job."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
STORE_ANNOTATION = "tspctl/store"
OWNER_ANNOTATION = "tspctl/owner"
"""The owner of the run, as passed to its pods: namespace and cluster."""
STOPPED_ANNOTATION = "tspctl/stopped"
"""``cancelled`` or ``suspended``, where a user stopped the run; Kueue suspends without it."""

KUEUE_VERSIONS = ("kueue.x-k8s.io/v1beta1", "kueue.x-k8s.io/v1beta2")
"""Those a cluster may serve, one or both."""
PYTORCHJOBS = ("kubeflow.org/v1", "pytorchjobs")
TRAINJOBS = ("trainer.kubeflow.org/v1alpha1", "trainjobs")
RUNTIMES = (TRAINJOBS[0], "trainingruntimes")
"""Templates of TrainJobs: the chart makes one for each."""
JOBS = ("batch/v1", "jobs")
RUN_RESOURCES = (PYTORCHJOBS, TRAINJOBS, JOBS)
"""What a run can be."""

MAIN_CONTAINERS = ("pytorch", "tsp", "node")
"""Names that the chart gives: the training operator insists on the first, Kubeflow Trainer on the last."""
RANKS_ANNOTATION = "tspctl/ranks-per-pod"
"""Of training jobs and their pods, where it is more than one."""
GPU_RESOURCE_ANNOTATION = "tspctl/gpu-resource"
MEMORY_LABEL_ANNOTATION = "tspctl/memory-label"

_REPLICA_TYPE = "training.kubeflow.org/replica-type"
_REPLICA_INDEX = "training.kubeflow.org/replica-index"
_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
_JOB_NAME = ("training.kubeflow.org/job-name", "jobset.sigs.k8s.io/jobset-name", "batch.kubernetes.io/job-name")
_RESTART_ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"


_RUN_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
"""Of objects and releases that carry it as a label."""


def may_be_run(name: str) -> bool:
    """Whether an object can be called so. Other text would be more than a name in a selector or a path: ``a,b=c``,
    ``a?``; the API server would refuse it, or answer about another object."""
    return _RUN_NAME.fullmatch(name) is not None


def pod_selector(name: str) -> str:
    """Selector of the pods of a run or job. ``owner_of`` separates them from those of its ``helm test``."""
    return f"{PART_OF},{RUN_LABEL}={name}"


def owner_of(pod: Object) -> str | None:
    """Name of the PyTorchJob, TrainJob or Job a pod belongs to."""
    labels = pod["metadata"].get("labels", {})
    return next((str(labels[key]) for key in _JOB_NAME if key in labels), None)


def ranks_per_pod(item: Object) -> int:
    """Ranks of each pod of a training job, or of this pod."""
    return int((item["metadata"].get("annotations") or {}).get(RANKS_ANNOTATION, 1))


def ranks_in(pod: Object) -> range:
    """Ranks of a pod; of an auxiliary job's its shard."""
    first, count = rank_of(pod), ranks_per_pod(pod)
    return range(first, first + count)


def rank_of(pod: Object) -> int:
    """First rank of a training pod (of a PyTorchJob the master's pod is first), index of a Job's."""
    labels = pod["metadata"].get("labels", {})
    if _COMPLETION_INDEX in labels:
        return int(labels[_COMPLETION_INDEX]) * ranks_per_pod(pod)
    index = int(labels.get(_REPLICA_INDEX, 0))
    return (index + 1 if labels.get(_REPLICA_TYPE) == "worker" else index) * ranks_per_pod(pod)


def restarts_of(pod: Object) -> int:
    """How often JobSet had restarted all pods of a TrainJob before this one."""
    return int(pod["metadata"].get("labels", {}).get(_RESTART_ATTEMPT, 0))


def is_ours(item: Object) -> bool:
    """Whether our chart made an object. A job is then the run of its name, whatever ``RUN_LABEL`` says: Argo CD writes
    the name of its application there.
    """
    key, _, value = PART_OF.partition("=")
    return (item["metadata"].get("labels") or {}).get(key) == value and not is_hook(item)


def is_of_run(item: Object, name: str) -> bool:
    """Whether an object belongs to that run: by its labels, whatever it is called."""
    labels = item["metadata"].get("labels") or {}
    key, _, value = PART_OF.partition("=")
    return labels.get(key) == value and labels.get(RUN_LABEL) == name


def is_controlled(item: Object) -> bool:
    """Whether another object manages it, and takes it along when it is deleted."""
    return any(owner.get("controller") for owner in item["metadata"].get("ownerReferences") or [])


def is_hook(item: Object) -> bool:
    """Whether it is an object of ``helm test``, and not a run."""
    return "helm.sh/hook" in (item["metadata"].get("annotations") or {})


def is_in_queue(job: Object) -> bool:
    """Whether it names a queue of Kueue."""
    return QUEUE_LABEL in ((job.get("metadata") or {}).get("labels") or {})


def kind_of(job: Object) -> str:
    """``train``, ``extract``, ...: what a job does."""
    return str(job["metadata"].get("labels", {}).get(KIND_LABEL, "train"))


def resource_of(job: Object) -> tuple[str, str]:
    """Group, version and resource of a job; items of a list do not say their kind."""
    spec = job["spec"]
    if "pytorchReplicaSpecs" in spec:
        return PYTORCHJOBS
    return TRAINJOBS if "runtimeRef" in spec else JOBS


def pod_template_of(item: Object) -> Object:
    """Template of the pods of a PyTorchJob (the master's: workers differ only in when they may land), a TrainingRuntime
    or a Job; empty of a TrainJob, whose runtime has it.
    """
    spec = item["spec"]
    replicas = spec.get("pytorchReplicaSpecs") or {}
    jobs = ((spec.get("template") or {}).get("spec") or {}).get("replicatedJobs")
    if jobs:
        spec = jobs[0]["template"]["spec"]
    found: Object = (replicas.get("Master") or spec).get("template") or {}
    return found


def pod_templates_of(item: Object) -> Iterator[tuple[Object, int]]:
    """One of each kind of pod of a job or runtime, and how many there are at a time."""
    spec = item["spec"] if item["kind"] in ("PyTorchJob", "TrainingRuntime", "Job") else {}
    for replica in (spec.get("pytorchReplicaSpecs") or {}).values():
        yield replica["template"], int(replica.get("replicas", 1))
    if spec and "pytorchReplicaSpecs" not in spec:
        count = (spec.get("mlPolicy") or {}).get("numNodes", spec.get("parallelism", 1))
        yield pod_template_of(item), int(count)


def main_container_of(pod: Object) -> Object:
    """The chart's container in a pod; sidecars may come before or after it, and may name themselves the default.

    Args: pod, with metadata, or a template; of a bare spec the one that has the chart's name.
    """
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    names = (*MAIN_CONTAINERS, annotations.get("kubectl.kubernetes.io/default-container"))
    containers = (pod.get("spec") or pod).get("containers") or [{}]
    found: Object = next(
        (item for name in names if name for item in containers if item.get("name") == name), containers[0]
    )
    return found


def configmaps_of(item: Object) -> list[str]:
    """ConfigMaps that the pods of a job or runtime mount."""
    volumes = (pod_template_of(item).get("spec") or {}).get("volumes") or []
    return [str(item["configMap"]["name"]) for item in volumes if "configMap" in item]


def claims_of(pod: Object) -> list[str]:
    """Volume claims that a pod mounts."""
    volumes = pod["spec"].get("volumes") or []
    return [str(item["persistentVolumeClaim"]["claimName"]) for item in volumes if "persistentVolumeClaim" in item]


def pods_of(job: Object) -> int:
    """Pods a PyTorchJob, TrainJob or Job wants."""
    spec = job["spec"]
    if "pytorchReplicaSpecs" in spec:
        return sum(int(item.get("replicas", 1)) for item in spec["pytorchReplicaSpecs"].values())
    if "runtimeRef" in spec:
        return int((spec.get("trainer") or {}).get("numNodes", 1))
    return int(spec.get("completions", 1))


def ranks_of(job: Object) -> int:
    """Ranks of a training run, shards of an auxiliary job."""
    return pods_of(job) * ranks_per_pod(job)


def names_in_events(job: Object) -> list[str]:
    """Objects whose events explain why pods of a job are not created: the job, and the Job that JobSet makes for a
    TrainJob."""
    name = str(job["metadata"]["name"])
    return [name, f"{name}-node-0"] if "runtimeRef" in job["spec"] else [name]
