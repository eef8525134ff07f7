"""How pods went that are gone, since a controller has replaced them: from the events about them. Pure.

A pod that the cluster takes away (preempted, drained, lost with its node) is deleted with all that its own status said.
What remains for an hour are events: of the scheduler, the node controllers, the kubelet, and the training operator,
which tells the exit codes of the pods that it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from k8s.names import PYTORCHJOBS, TRAINJOBS, Object, ranks_per_pod, resource_of
from tsp.run.status import PEER_LOST, TERMINATED, describe_exit

TAKEN_BY_TAINT = "was removed from a node that was tainted (not ready, or being emptied)"
PREEMPTED = "was preempted by a pod of higher priority"

_ONE_FAILURE_SEC = 300.0
"""Pods that end within this time end for one reason: a rank waits that long for a lost peer."""
_COMMON = ("Scheduled", "FailedScheduling", "Pulling", "Pulled", "Created", "Started", "BackOff", "Unhealthy")
SELECTOR = ",".join(["involvedObject.kind=Pod", *(f"reason!={reason}" for reason in _COMMON)])
"""Of events about pods, but for the many that tell nothing of their end."""
_STOPPED = "Killing"
"""The kubelet's, of whatever pod is deleted; it does not know why."""
_NOT_READY = "NodeNotReady"
_UNSURE = (_STOPPED, _NOT_READY)
"""A pod may also survive a node's short absence, and be lost to something else a moment later."""
_TAKEN = {
    "Preempted": PREEMPTED,
    "TaintManagerEviction": TAKEN_BY_TAINT,
    _NOT_READY: "was on a node that did not answer any more",
    _STOPPED: "was deleted, as when its node is drained",
}
_EVICTED = "Evicted"
_CANCELLED = "Cancelling"
"""Of the taint controller, whose events all have one reason."""
_POD_NAMES = {
    PYTORCHJOBS: r"{}-(?P<kind>master|worker)-(?P<index>\d+)",
    TRAINJOBS: r"{}-node-0-(?P<index>\d+)-[a-z0-9]+",
}
_JOBS_POD_NAME = r"{}-(?P<index>\d+)-[a-z0-9]+"


@dataclass(frozen=True, kw_only=True, slots=True)
class _End:
    """How a pod ended, as an event has it."""

    time: str
    text: str
    weight: int = 0
    """Among ends of one failure: a cause, then what may be none, then those that report another's end."""


def how_pods_went(job: Object, pods: Sequence[Object], events: Sequence[Object]) -> str | None:
    """The first cause of the newest loss of pods that are not there any more; None if no event tells of any.

    Args: events, the newest first.
    """
    present = {str(pod["metadata"].get("uid")) for pod in pods}
    by_controller = _deleted_by_controller(job, events)
    began = _began(job)
    ends: list[_End] = []
    for event in events:
        # A resumed job begins anew, and a removed run may have had the same name.
        if seconds_between(began, event_time(event)) < 0:
            break
        if ends and seconds_between(event_time(event), ends[0].time) > _ONE_FAILURE_SEC:
            break
        ends += _end_in(event, job, present, by_controller)
    # Of one failure the earliest counts, of one second the lowest rank.
    first = min(ends, key=lambda end: (end.weight, seconds_between(began, end.time)), default=None)
    return first.text if first is not None else None


def _began(job: Object) -> str:
    """When it was started or resumed last; a TrainJob tells only by the end of its suspension."""
    status = job.get("status") or {}
    known = [str(status.get("startTime") or job["metadata"].get("creationTimestamp") or "")]
    for item in status.get("conditions") or []:
        if item.get("type") == "Suspended" and item.get("status") == "False":
            known.append(str(item.get("lastTransitionTime") or known[0]))
    return max(known, key=lambda time: seconds_between(known[0], time))


def _deleted_by_controller(job: Object, events: Sequence[Object]) -> set[str]:
    """Names of the pods that the job's controller itself deleted: all of an attempt, when one of them has failed. Those
    of a PyTorchJob it does not; where there are many events, Kubernetes combines them, and any may be one.
    """
    if resource_of(job) == PYTORCHJOBS:
        return set()
    told = [str(event.get("message")) for event in events if event.get("reason") == "SuccessfulDelete"]
    if any(text.startswith("(combined") for text in told):
        return {str((event.get("involvedObject") or {}).get("name")) for event in events}
    return {text.rpartition(" ")[2] for text in told}


def _end_in(event: Object, job: Object, present: set[str], by_controller: set[str]) -> Iterator[_End]:
    """The end of a pod of the job, if the event tells of one."""
    time, message, reason = event_time(event), str(event.get("message") or "").strip(), str(event.get("reason"))
    exited = re.search(r"Pod: \S*?([^.\s]+) exited with code (\d+)", message)
    if exited is not None:
        code = int(exited[2])
        weight = 2 if code in (PEER_LOST, TERMINATED) else 0
        yield _End(time=time, text=f"pod {exited[1]} ended with {describe_exit(code)}", weight=weight)
        return
    involved = event.get("involvedObject") or {}
    who = ranks_of_pod(str(involved.get("name")), job)
    if who is None or str(involved.get("uid")) in present or message.startswith(_CANCELLED):
        return
    if reason == _EVICTED:
        yield _End(time=time, text=f"{who} was evicted by its node: {message}")
    elif reason in _TAKEN and (reason != _STOPPED or str(involved.get("name")) not in by_controller):
        yield _End(time=time, text=f"{who} {_TAKEN[reason]}", weight=int(reason in _UNSURE))


def ranks_of_pod(pod_name: str, job: Object) -> str | None:
    """The ranks of a pod of that name; None for a pod of another job."""
    pattern = _POD_NAMES.get(resource_of(job), _JOBS_POD_NAME).format(re.escape(str(job["metadata"]["name"])))
    match = re.fullmatch(pattern, pod_name)
    if match is None:
        return None
    per_pod = ranks_per_pod(job)
    first = (int(match["index"]) + (match.groupdict().get("kind") == "worker")) * per_pod
    return f"rank {first}" if per_pod == 1 else f"the pod of ranks {first} to {first + per_pod - 1}"


def event_time(event: Object) -> str:
    """When it occurred last, RFC 3339; empty if unknown."""
    series: Any = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def seconds_between(earlier: str, later: str) -> float:
    """From one time to another, RFC 3339; 0 if one is unknown."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except ValueError:
        return 0.0
