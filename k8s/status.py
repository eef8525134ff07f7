"""One state from the conditions of a PyTorchJob, TrainJob or Job and its pods. Pure.

The operator keeps every condition it ever set and sets some of them to False; its printed State column shows the last
one in the list, which can be misleading. Here only conditions with status True count, and final ones take precedence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from k8s.names import STOPPED_ANNOTATION, Object, is_in_queue, main_container_of, ranks_in, restarts_of
from tsp.run.status import RankEnd, RunState, is_permanent, root_cause

_OOM_KILLED = 137


@dataclass(frozen=True, kw_only=True, slots=True)
class Termination:
    """How a container ended."""

    exit_code: int
    reason: str
    """``OOMKilled``, ``Error``, ``Completed``, ... as the kubelet says."""
    message: str
    """The last words of the container."""
    finished: str
    """RFC 3339; empty if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PodStatus:
    """One pod of a run."""

    ranks: range
    """Of a training pod; of a Job's pod its index alone."""
    name: str
    uid: str
    state: Literal["pending", "starting", "running", "terminating", "succeeded", "failed"]
    node: str | None
    restarts: int
    ended: Termination | None
    """Of its main container: now, or at its last restart."""
    image_id: str | None = None
    """What its main container's image resolved to, with its digest; None until it was pulled."""

    @property
    def rank(self) -> int:
        """The first of its ranks."""
        return self.ranks.start

    @property
    def who(self) -> str:
        """As messages call it."""
        return f"rank {self.rank}" if len(self.ranks) == 1 else f"the pod of ranks {self.rank} to {self.ranks[-1]}"


def true_conditions(status: Object) -> dict[str, Object]:
    """Type -> condition, for the true ones."""
    return {str(item["type"]): item for item in status.get("conditions") or [] if item.get("status") == "True"}


def stopped_by_user(job: Object) -> str | None:
    """``cancelled`` or ``suspended`` if tspctl stopped the run so."""
    found = (job["metadata"].get("annotations") or {}).get(STOPPED_ANNOTATION)
    return str(found) if found else None


def is_suspended(job: Object) -> bool:
    """Whether its suspend field is set, so that the operator keeps no pods for it."""
    spec = job.get("spec") or {}
    return bool((spec.get("runPolicy") or spec).get("suspend"))


def is_deactivated(workload: Object | None) -> bool:
    """Whether Kueue or a user has deactivated the workload, so that nothing starts it automatically."""
    return workload is not None and (workload.get("spec") or {}).get("active") is False


def state_of(job: Object, pods: Sequence[Object] = (), workload: Object | None = None) -> RunState:
    """The state of a run from its job, and from its pods and Kueue's workload if available."""
    holds = true_conditions(job.get("status") or {})
    if "Succeeded" in holds or "Complete" in holds:
        return "succeeded"
    if stopped_by_user(job) == "cancelled":
        return "cancelled"
    if "Failed" in holds:
        return "failed"
    if is_suspended(job):
        # Kueue uses the same field for jobs that wait in its queue.
        waits_in_queue = is_in_queue(job) and not stopped_by_user(job)
        return "pending" if waits_in_queue and not is_deactivated(workload) else "suspended"
    if "Restarting" in holds:
        return "restarting"
    if "Running" in holds or any(pod_status(pod).state == "running" for pod in pods):
        return "running"
    if _is_ready(job):
        return "running"
    return "restarting" if any(restarts_of(pod) for pod in pods) else "pending"


def _is_ready(job: Object) -> bool:
    """Whether the status of a Job or TrainJob counts pods at work; a TrainJob has no condition for it."""
    status = job.get("status") or {}
    if "runtimeRef" in job["spec"]:
        return any(item.get("ready") for item in status.get("jobsStatus") or [])
    return "pytorchReplicaSpecs" not in job["spec"] and bool(status.get("ready"))


def pod_status(pod: Object) -> PodStatus:
    """The state of a pod, from its own status."""
    status = pod.get("status") or {}
    containers: Sequence[Object] = status.get("containerStatuses") or [{}]
    name = main_container_of(pod).get("name")
    main = next((item for item in containers if item.get("name") == name), containers[0])
    return PodStatus(
        ranks=ranks_in(pod),
        name=str(pod["metadata"]["name"]),
        uid=str(pod["metadata"].get("uid", "")),
        state=_pod_state(pod, main),
        node=pod["spec"].get("nodeName"),
        restarts=int(main.get("restartCount", 0)) + restarts_of(pod),
        ended=termination(main),
        image_id=re.sub(r"^docker(-pullable)?://", "", str(main.get("imageID") or "")) or None,
    )


def _pod_state(
    pod: Object, main: Object
) -> Literal["pending", "starting", "running", "terminating", "succeeded", "failed"]:
    phase = (pod.get("status") or {}).get("phase", "Pending")
    if phase == "Succeeded":
        return "succeeded"
    if phase == "Failed":
        return "failed"
    if pod["metadata"].get("deletionTimestamp"):
        return "terminating"
    if "running" in (main.get("state") or {}):
        return "running"
    return "starting" if pod["spec"].get("nodeName") else "pending"


def termination(container: Object) -> Termination | None:
    """How a container of ``status.containerStatuses`` ended, the last time it did."""
    for key in ("state", "lastState"):
        ended = (container.get(key) or {}).get("terminated")
        if ended:
            return Termination(
                exit_code=int(ended.get("exitCode", 0)),
                reason=str(ended.get("reason") or ""),
                message=str(ended.get("message") or ""),
                finished=str(ended.get("finishedAt") or ""),
            )
    return None


def culprit(pods: Sequence[PodStatus]) -> PodStatus | None:
    """The pod whose failure brought the others down; None if none failed.

    A permanent exit code has precedence, whenever it occurred: only it makes the operator give up the job.
    """
    ends: list[tuple[bool, str, int, RankEnd]] = []
    for pod in pods:
        if pod.ended is not None and pod.ended.exit_code:
            code = _OOM_KILLED if pod.ended.reason == "OOMKilled" else pod.ended.exit_code
            ends.append((not is_permanent(pod.ended.exit_code), pod.ended.finished, pod.rank, RankEnd(pod.rank, code)))
    cause = root_cause(end for *_, end in sorted(ends, key=lambda item: item[:3]))
    return next((pod for pod in pods if cause is not None and pod.rank == cause.rank and pod.ended is not None), None)


def created_at(job: Object) -> datetime | None:
    """When the job was created, with a time zone."""
    return _time(job["metadata"].get("creationTimestamp"))


def ended_at(job: Object) -> datetime | None:
    """When it ended, with a time zone; the operator leaves completionTime empty for some failures."""
    status = job.get("status") or {}
    holds = true_conditions(status)
    for kind in ("Succeeded", "Complete", "Failed"):
        if kind in holds:
            return _time(status.get("completionTime") or holds[kind].get("lastTransitionTime"))
    return None


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
