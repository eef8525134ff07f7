"""The objects of runs on a cluster, and the operations on them other than installing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.names import (
    JOB_UID_LABEL,
    KUEUE_VERSIONS,
    RUN_RESOURCES,
    RUNTIMES,
    STOPPED_ANNOTATION,
    TRAINJOBS,
    Object,
    claims_of,
    configmaps_of,
    is_in_queue,
    is_ours,
    may_be_run,
    names_in_events,
    owner_of,
    pod_selector,
    rank_of,
    resource_of,
)
from k8s.run_list import RunView, jobs_of_kind, list_views, pass_over_absent
from k8s.status import is_suspended, pod_status, state_of
from k8s.why import why
from k8s.why_gone import SELECTOR as OF_GONE_PODS
from tsp.errors import ClusterError, NoSuchRunError
from tsp.run.status import ENDED

logger = logging.getLogger(__name__)

_POLL_SEC = 1.0
_MAX_ASKED_PODS = 3
"""Events are asked for so many pods that wait; one line needs no more."""
_GPU_LABELS = ("nvidia.com/gpu.product", "nvidia.com/gpu.memory")


class Runs:
    """Runs of one namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._gpus: dict[str, str | None] = {}

    def find(self, name: str) -> dict[str, Any] | None:
        """The PyTorchJob, TrainJob or Job of a run of ours; None if there is none."""
        for kind in RUN_RESOURCES if may_be_run(name) else ():
            try:
                found = self.cluster.get(self.cluster.namespaced(*kind, name))
            except NotFoundError:
                continue
            except ForbiddenError as error:
                pass_over_absent(self.cluster, kind, error)
                continue
            if is_ours(found):
                return found
        return None

    def get(self, name: str) -> dict[str, Any]:
        """The same. Raises: NoSuchRunError."""
        found = self.find(name)
        if found is None:
            raise NoSuchRunError(f"no run {name!r} in namespace {self.cluster.namespace}: see 'tspctl list'")
        return found

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Pods of a run, lowest rank first."""
        path = self.cluster.namespaced("v1", "pods")
        found = self.cluster.items(path, labelSelector=pod_selector(name))
        return sorted((pod for pod in found if owner_of(pod) == name), key=rank_of)

    def view(self, name: str) -> RunView | None:
        """RunState and reason of one run; None if there is none."""
        job = self.find(name)
        if job is None:
            return None
        pods = self.pods(name)
        workload = self._workload(job)
        state = state_of(job, pods, workload)
        events = [] if state in ("succeeded", "cancelled", "suspended") else list(self._events(job, pods))
        reason = why(job, pods, events, workload)
        return RunView(job=job, pods=tuple(pods), state=state, reason=reason)

    def views(self) -> Iterator[RunView]:
        """Every run, newest first."""
        return list_views(self.cluster)

    def names(self) -> Iterator[str]:
        """Names of all runs and jobs, in a request for each kind."""
        for kind in RUN_RESOURCES:
            yield from (str(job["metadata"]["name"]) for job in jobs_of_kind(self.cluster, kind))

    def _events(self, job: Mapping[str, Any], pods: list[dict[str, Any]]) -> Iterator[Object]:
        waiting = [pod for pod in pods if pod_status(pod).state in ("pending", "starting")][:_MAX_ASKED_PODS]
        pending = [pod for pod in waiting if pod_status(pod).state == "pending"]
        claims = dict.fromkeys(claim for pod in pending for claim in claims_of(pod))
        path = self.cluster.namespaced("v1", "events")
        involved = [*names_in_events(job), *(pod["metadata"]["name"] for pod in waiting), *claims]
        for selector in [*(f"involvedObject.name={name}" for name in involved), OF_GONE_PODS]:
            try:
                yield from self.cluster.items(path, fieldSelector=selector)
            except ForbiddenError as error:
                logger.debug("%s", error)
                return

    def _workload(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """Kueue's object for a job in a queue, or for one that it holds because it is in none."""
        if not is_in_queue(job) and not is_suspended(job):
            return None
        for version in KUEUE_VERSIONS:
            path = self.cluster.namespaced(version, "workloads")
            selector = f"{JOB_UID_LABEL}={job['metadata'].get('uid')}"
            try:
                return next(self.cluster.items(path, labelSelector=selector), None)
            except (NotFoundError, ForbiddenError) as error:
                logger.debug("%s", error)
        return None

    def gpu_of(self, node: str | None) -> str | None:
        """What the node's labels say of its GPUs: ``NVIDIA-A10, 23028 MiB``; None where they cannot be read."""
        if node is None:
            return None
        if node not in self._gpus:
            self._gpus[node] = self._read_gpu(node)
        return self._gpus[node]

    def _read_gpu(self, node: str) -> str | None:
        try:
            labels = self.cluster.get(f"/api/v1/nodes/{node}")["metadata"].get("labels", {})
        except ClusterError as error:
            logger.debug("%s", error)
            return None
        product, memory = (labels.get(key) for key in _GPU_LABELS)
        unit = " MiB" if memory and memory.isdigit() else ""
        return ", ".join(text for text in (product, memory and memory + unit) if text) or None

    def lacks_config(self, job: Mapping[str, Any]) -> bool:
        """Whether a ConfigMap that the job's pods mount, or its runtime, is gone: they would wait for it forever."""
        template = job
        if resource_of(job) == TRAINJOBS:
            try:
                template = self.cluster.get(self.cluster.namespaced(*RUNTIMES, job["spec"]["runtimeRef"]["name"]))
            except NotFoundError:
                return True
        for name in configmaps_of(template):
            try:
                self.cluster.get(self.cluster.namespaced("v1", "configmaps", name))
            except NotFoundError:
                return True
        return False

    def is_held_without_queue(self, job: Mapping[str, Any]) -> bool:
        """Whether Kueue suspends a job as often as anybody continues it, since it is in no queue."""
        return is_suspended(job) and not is_in_queue(job) and self._workload(job) is not None

    def set_suspended(self, name: str, suspended: bool, *, stopped: str | None) -> None:
        """Make the operator delete the pods, or recreate them.

        Args: stopped, ``cancelled`` or ``suspended`` as the job then says; None when it goes on.
        """
        job = self.get(name)
        metadata = {"annotations": {STOPPED_ANNOTATION: stopped}}
        path = self.cluster.namespaced(*resource_of(job), name)
        workload = self._workload(job)
        if workload is not None:
            # Kueue owns the field below and would reset it.
            self._set_workload_active(workload, not suspended)
            self.cluster.patch(path, {"metadata": metadata})
            return
        field = {"suspend": suspended}
        spec = {"runPolicy": field} if "pytorchReplicaSpecs" in job["spec"] else field
        self.cluster.patch(path, {"metadata": metadata, "spec": spec})

    def _set_workload_active(self, workload: Mapping[str, Any], active: bool) -> None:
        path = self.cluster.namespaced(
            workload.get("apiVersion", "kueue.x-k8s.io/v1beta1"), "workloads", workload["metadata"]["name"]
        )
        self.cluster.patch(path, {"spec": {"active": active}})

    def wait_without_pods(self, name: str, *, timeout_sec: float, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Wait until every running pod is gone or has ended. Returns: False if some did not in time.

        Args: meanwhile, called between looks; it raises if there is nothing to wait for any more.
        """

        def quiet() -> bool:
            if all(
                pod_status(pod).state in ("succeeded", "failed") and not pod["metadata"].get("deletionTimestamp")
                for pod in self.pods(name)
            ):
                return True
            meanwhile()
            return False

        return wait_for(quiet, timeout_sec=timeout_sec)

    def wait_gone(self, name: str, *, timeout_sec: float, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Wait until no job, pod or runtime of that name exists. Returns: False if some were not gone in time.

        Args: meanwhile, as ``wait_without_pods``.
        """

        def gone() -> bool:
            if self.find(name) is None and not self.pods(name) and not self._has_runtime(name):
                return True
            meanwhile()
            return False

        return wait_for(gone, timeout_sec=timeout_sec)

    def _has_runtime(self, name: str) -> bool:
        """Whether a TrainJob's runtime is there: Kubeflow Trainer lets it go only some time after the TrainJob."""
        try:
            self.cluster.get(self.cluster.namespaced(*RUNTIMES, name))
        except (NotFoundError, ForbiddenError):
            return False
        return True

    def kill_pods(self, name: str) -> None:
        """Delete the remaining pods of a run without grace."""
        for pod in self.pods(name):
            if pod_status(pod).state not in ("succeeded", "failed"):
                self.cluster.delete(
                    self.cluster.namespaced("v1", "pods", pod["metadata"]["name"]), gracePeriodSeconds=0
                )


def wait_for(condition: Callable[[], bool], *, timeout_sec: float) -> bool:
    """Check once a second until it holds or the time is up."""
    deadline = time.monotonic() + timeout_sec
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SEC)
    return True


class RunLogs:
    """What ``k8s.run_logs`` needs of one run."""

    def __init__(self, runs: Runs, name: str) -> None:
        self._runs, self._name = runs, name

    def pods(self) -> list[dict[str, Any]]:
        """Pods of the run as they are now."""
        return self._runs.pods(self._name)

    def pod(self, name: str) -> dict[str, Any]:
        """One pod."""
        cluster = self._runs.cluster
        return cluster.get(cluster.namespaced("v1", "pods", name))

    def read_log(self, pod: str, *, idle_sec: float, **query: Any) -> Iterator[bytes]:
        """Chunks of a pod's log."""
        return self._runs.cluster.read_log(pod, idle_sec=idle_sec, **query)

    def ended(self) -> bool:
        """Whether the run has ended, is suspended, or was removed."""
        job = self._runs.find(self._name)
        return job is None or state_of(job) in ENDED | {"suspended"}
