"""All runs of a namespace, with a few requests for each kind of object, however many runs there are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.job_apis import is_served
from k8s.names import (
    JOB_UID_LABEL,
    JOBS,
    KUEUE_VERSIONS,
    PART_OF,
    PYTORCHJOBS,
    RUN_RESOURCES,
    Object,
    is_hook,
    kind_of,
    names_in_events,
    owner_of,
    pods_of,
    rank_of,
)
from k8s.status import is_suspended, pod_status, state_of, stopped_by_user
from k8s.why import why
from k8s.why_refused import REASONS
from tsp.run.status import ACTIVE, ENDED, RunState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """A run as the cluster shows it at one moment."""

    job: dict[str, Any]
    pods: tuple[dict[str, Any], ...]
    state: RunState
    reason: str | None


def list_views(cluster: Cluster) -> Iterator[RunView]:
    """Every run, newest first; for speed, only pods and events that explain a wait or a failure are read. However many
    runs there are, it takes a few requests for each kind of object.
    """
    jobs = list(chain.from_iterable(jobs_of_kind(cluster, kind) for kind in RUN_RESOURCES))
    troubled: dict[str, list[dict[str, Any]]] = {}
    if any(state_of(job) not in ENDED or state_of(job) == "failed" for job in jobs):
        path = cluster.namespaced("v1", "pods")
        not_well = "status.phase!=Running,status.phase!=Succeeded"
        for pod in cluster.items(path, labelSelector=PART_OF, fieldSelector=not_well):
            troubled.setdefault(owner_of(pod) or "", []).append(pod)
    _add_placed(cluster, troubled, jobs)
    # An active job should have all its pods, unless it is held back.
    present = _count_pods(cluster) if any(state_of(job) in ACTIVE for job in jobs) else None
    lacking = [job for job in jobs if present is not None and present[str(job["metadata"]["name"])] < pods_of(job)]
    events = _refusals(cluster) if any(state_of(job) in ACTIVE and not is_suspended(job) for job in lacking) else {}
    held = any(is_suspended(job) and not stopped_by_user(job) for job in jobs)
    workloads = _workloads(cluster) if held else {}
    for job in sorted(jobs, key=lambda item: str(item["metadata"].get("creationTimestamp")), reverse=True):
        name, uid = job["metadata"]["name"], str(job["metadata"].get("uid"))
        pods = sorted(troubled.get(name, []), key=rank_of)
        state = state_of(job, pods, workloads.get(uid))
        there = max(len(pods), present[name]) if present is not None else pods_of(job)
        own = [event for of in names_in_events(job) for event in events.get(of, [])]
        reason = why(job, pods, own, workloads.get(uid), present=there)
        yield RunView(job=job, pods=tuple(pods), state=state, reason=reason)


def _count_pods(cluster: Cluster) -> Counter[str]:
    """Job -> how many pods it has, whatever becomes of them."""
    path = cluster.namespaced("v1", "pods")
    found = cluster.items(path, metadata_only=True, labelSelector=PART_OF)
    return Counter(owner_of(pod) or "" for pod in found)


def _add_placed(cluster: Cluster, troubled: dict[str, list[dict[str, Any]]], jobs: list[dict[str, Any]]) -> None:
    """Beside pods that wait for the scheduler, those of their runs that have their GPUs already."""
    pods_wanted = {str(job["metadata"]["name"]): pods_of(job) for job in jobs if kind_of(job) == "train"}
    halved = {
        name
        for name, pods in troubled.items()
        if len(pods) < pods_wanted.get(name, 0) and any(pod_status(pod).state == "pending" for pod in pods)
    }
    if not halved:
        return
    path = cluster.namespaced("v1", "pods")
    for pod in cluster.items(path, labelSelector=PART_OF, fieldSelector="status.phase=Running"):
        if owner_of(pod) in halved and pod_status(pod).state == "running":
            troubled[str(owner_of(pod))].append(pod)


def _refusals(cluster: Cluster) -> dict[str, list[Object]]:
    """Job -> events that explain why its pods could not be created."""
    found: dict[str, list[Object]] = {}
    try:
        for reason in REASONS:
            for event in cluster.items(cluster.namespaced("v1", "events"), fieldSelector=f"reason={reason}"):
                found.setdefault(str(event["involvedObject"].get("name")), []).append(event)
    except ForbiddenError as error:
        logger.debug("%s", error)
    return found


def _workloads(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Uid of a job -> Kueue's object for it."""
    for version in KUEUE_VERSIONS:
        path = cluster.namespaced(version, "workloads")
        try:
            return {str(item["metadata"].get("labels", {}).get(JOB_UID_LABEL)): item for item in cluster.items(path)}
        except (NotFoundError, ForbiddenError) as error:
            logger.debug("%s", error)
    return {}


def jobs_of_kind(cluster: Cluster, kind: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """Jobs of one kind that are runs; the Job of a ``helm test`` is none."""
    try:
        for job in cluster.items(cluster.namespaced(*kind), labelSelector=PART_OF):
            if not is_hook(job):
                yield job
    except NotFoundError:
        logger.debug("the cluster has no %s", kind[1])
    except ForbiddenError as error:
        pass_over_absent(cluster, kind, error)


def pass_over_absent(cluster: Cluster, kind: tuple[str, str], error: ForbiddenError) -> None:
    """Rights are asked for before a kind is: a user is also refused PyTorchJobs where there are none. TrainJobs
    are passed over wherever they are refused, for users with an older Role.

    Raises: the error, for any other kind.
    """
    if kind == JOBS or (kind == PYTORCHJOBS and is_served(cluster, kind)):
        raise error
    logger.debug("%s", error)
