"""Why a run waits or failed, in one line, from its job, pods and events. Pure.

The texts it reads are those of the scheduler, the kubelet, the admission chain, the training operator, Kubeflow Trainer
and Kueue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from k8s.names import (
    GPU_RESOURCE_ANNOTATION,
    PYTORCHJOBS,
    QUEUE_LABEL,
    TRAINJOBS,
    pods_of,
    rank_of,
    ranks_of,
    resource_of,
)
from k8s.status import (
    Object,
    PodStatus,
    culprit,
    is_deactivated,
    is_suspended,
    pod_status,
    state_of,
    stopped_by_user,
    true_conditions,
)
from tsp.run.status import PEER_LOST, TERMINATED, RankEnd, describe_end, describe_exit, root_cause

_MAX_CHARS = 300
_ONE_FAILURE_SEC = 300.0
"""Pods that end within this time end for one reason: a rank waits that long for a lost peer."""
_LOG_PREFIX = re.compile(
    r"^(?:\d{4}-\d\d-\d\d[T ]\S+ )?(?:rank \d+ )?(?:(?:ERROR|CRITICAL|WARNING|INFO):?\s+)?", re.ASCII
)
_CONTROLLERS = {PYTORCHJOBS: "the training operator", TRAINJOBS: "Kubeflow Trainer"}
_LEADERS_LINE = re.compile(r"(?:\S+Z )?rank (\d+) ERROR (ended with exit code .*)")
"""The last line of a pod with several ranks (``tsp.run.pod_ranks``)."""
_PULLING = {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_NORMAL_WAITS = {"ContainerCreating", "PodInitializing"}
_DISRUPTIONS = {
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    "PreemptionByKubeScheduler": "was preempted by a pod of higher priority",
    "DeletionByTaintManager": "was removed from a node that was tainted (not ready, or being emptied)",
    "EvictionByEvictionAPI": "was evicted (its node is being drained)",
    "DeletionByPodGC": "was on a node that is gone",
    "TerminationByKubelet": "was ended by its node (pressure or shutdown)",
}
_TOO_LONG = "it ran longer than its deadline allows"
_EXECUTION_TIME = "MaximumExecutionTimeExceeded"
_NEVER_ADMITTED = ("ExceedsMaxQuota", "NoMatchingFlavor")
_MORE_THAN_ALL = "> maximum capacity"
"""Of Kueue before it gave reasons."""
_UIDS = re.compile(r" \((?:UID|JobUID): [^)]*\)")
_SCHEDULING_HINTS = (
    (r"pod has unbound immediate PersistentVolumeClaims", "a volume claim is not bound: see 'kubectl get pvc'"),
    (r'persistentvolumeclaim "([^"]+)" not found', r"the volume claim \1 does not exist: create it or set data.claim"),
    (r"volume node affinity conflict", "its volume lies in a zone without a fitting node"),
    (r"Insufficient ([\w./-]*gpu[\w/-]*)", r"not enough free \1"),
    (r"Insufficient ([\w./-]*[\w/-])", r"not enough \1 on the nodes: lower resources.requests.\1"),
    (r"untolerated taint (\{[^}]*\})", r"the nodes have the taint \1: add to tolerations"),
    (r"didn't match Pod's node affinity/selector", "no node matches the node selector and the GPU plan"),
    (r"were unschedulable", "the nodes are cordoned"),
)


def why(
    job: Object, pods: Sequence[Object] = (), events: Iterable[Object] = (), workload: Object | None = None
) -> str | None:
    """One line on why a run is not running as it should, or None if it is.

    Args: events, of the job and its pods; workload, Kueue's object for the job.
    """
    state = state_of(job, pods)
    if state in ("succeeded", "cancelled"):
        return None
    latest = sorted(events, key=_event_time, reverse=True)
    if state == "failed":
        return _short(_failure(job, pods, latest))
    if is_suspended(job):
        return _short(_held_back(job, workload))
    reasons = [*_of_pods(pods, latest), *_not_created(job, pods, latest), *_wait_for_master(pods)]
    if state == "restarting" or not reasons:
        reasons += _restarts(pods, latest, restarting=state == "restarting")
    controller = _CONTROLLERS.get(resource_of(job))
    status = job.get("status") or {}
    if controller and not reasons and not pods and not (status.get("conditions") or status.get("jobsStatus")):
        reasons.append(f"nobody has taken it up yet: is {controller} running?")
    return _short(_half_placed(job, pods) + reasons[0]) if reasons else None


def _half_placed(job: Object, pods: Sequence[Object]) -> str:
    """What the placed ranks of a run hold while others wait for the scheduler."""
    if resource_of(job) not in _CONTROLLERS:
        return ""
    states = [pod_status(pod) for pod in pods]
    placed = sum(len(status.ranks) for status in states if status.state in ("starting", "running"))
    if not placed or not any(status.state == "pending" for status in states):
        return ""
    holds = "GPUs" if GPU_RESOURCE_ANNOTATION in (job["metadata"].get("annotations") or {}) else "what they asked for"
    return f"{placed} of {ranks_of(job)} ranks hold {holds}, for placement_timeout_sec at most; "


def why_pod(pod: Object, events: Iterable[Object] = ()) -> str | None:
    """One line on why a single pod waits or failed."""
    latest = sorted(events, key=_event_time, reverse=True)
    return _short(next(iter([*_of_pods([pod], latest), *_wait_for_master([pod])]), None) or _ended(pod))


def _failure(job: Object, pods: Sequence[Object], events: list[Object]) -> str:
    cause = culprit([pod_status(pod) for pod in pods])
    failed = true_conditions(job.get("status") or {})["Failed"]
    if failed.get("reason") == "DeadlineExceeded" or "active longer than specified deadline" in failed.get(
        "message", ""
    ):
        return f"{_TOO_LONG} (--deadline, runPolicy.activeDeadlineSeconds)"
    for pod in pods:
        taken = _taken_away(pod)
        if taken and (cause is None or pod_status(pod).name == cause.name):
            return taken
    exited = _first_exit_in(events)
    if cause is not None and not (_follows(cause) and exited is not None):
        return _in_words(cause)
    return exited or str(failed.get("message") or failed.get("reason") or "the operator does not say why")


def _in_words(pod: PodStatus) -> str:
    """How a container ended, with its last words."""
    assert pod.ended is not None
    if pod.ended.reason == "OOMKilled":
        return (
            f"{pod.who} was OOM-killed: it used more memory than its limit; raise resources.limits.memory, "
            f"or lower data.workers or shm.sizeLimit"
        )
    last = ([line.strip() for line in pod.ended.message.splitlines() if line.strip()] or [""])[-1]
    of_rank = _LEADERS_LINE.fullmatch(last) if len(pod.ranks) > 1 else None
    if of_rank is not None:
        return f"rank {of_rank[1]} {of_rank[2]}"
    return describe_end(RankEnd(pod.rank, pod.ended.exit_code), _without_stamp(last))


def _without_stamp(line: str) -> str:
    """A line of a log without its time, rank and level."""
    return _LOG_PREFIX.sub("", line.strip())


def _follows(pod: PodStatus) -> bool:
    """Whether its end only reports or forwards another's."""
    return pod.ended is not None and pod.ended.exit_code in (PEER_LOST, TERMINATED) and pod.ended.reason != "OOMKilled"


def _ended(pod: Object) -> str | None:
    status = pod_status(pod)
    if status.state != "failed" and not status.restarts:
        return None
    return _taken_away(pod) or (_in_words(status) if status.ended and status.ended.exit_code else None)


def _taken_away(pod: Object) -> str | None:
    """A pod that did not end by itself."""
    status, who = pod.get("status") or {}, pod_status(pod).who
    if status.get("reason") == "Evicted":
        return f"{who} was evicted from node {pod['spec'].get('nodeName')}: {status.get('message', '').strip()}"
    disruption = true_conditions(status).get("DisruptionTarget")
    if disruption:
        said = _DISRUPTIONS.get(str(disruption.get("reason")), str(disruption.get("message")))
        return f"{who} {said}"
    if status.get("phase") == "Failed" and status.get("reason"):
        # Refused or given up by its node, for one of many reasons: in the kubelet's own words.
        return f"{who} was refused or lost by its node ({status['reason']}): {status.get('message', '').strip()}"
    return None


def _held_back(job: Object, workload: Object | None) -> str:
    if stopped_by_user(job):
        return f"suspended: go on with 'tspctl resume {job['metadata']['name']}'"
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if queue is None:
        return "suspended by somebody else (its suspend field)"
    status = (workload or {}).get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    evicted = conditions.get("Evicted") or {}
    resume = f"go on with 'tspctl resume {job['metadata']['name']}'"
    if is_deactivated(workload):
        if _EXECUTION_TIME in str(evicted.get("reason")):
            return f"{_TOO_LONG} in queue {queue}: {resume}"
        said = evicted.get("message") or "by an administrator"
        return f"deactivated in queue {queue} ({said}): {resume}"
    never = _never_admitted(conditions.get("QuotaReserved") or {})
    if never:
        return f"can never start in queue {queue} as it is: {never}"
    if evicted.get("status") == "True":
        return f"{_evicted(evicted, conditions)} and waits in queue {queue} again{_next_try(status)}"
    for kind in ("QuotaReserved", "Admitted"):
        if kind in conditions and conditions[kind].get("status") != "True":
            return f"waits in queue {queue}: {conditions[kind].get('message')}"
    if workload is None:
        return f"waits in queue {queue}; whether Kueue knows it cannot be seen (does the LocalQueue exist?)"
    return f"waits in queue {queue}"


def _never_admitted(reserved: Object) -> str | None:
    """What Kueue says of a run that is larger than all the quota there is, or fits none of its flavors."""
    if reserved.get("status") == "True":
        return None
    message = str(reserved.get("message") or "")
    clauses = [clause for clause in message.split("; ") if _MORE_THAN_ALL in clause]
    if clauses or reserved.get("reason") in _NEVER_ADMITTED:
        return (clauses or [message])[0]
    return None


def _evicted(evicted: Object, conditions: Mapping[str, Object]) -> str:
    """Why Kueue took a run's quota back, in its own words."""
    preempted = conditions.get("Preempted") or {}
    if evicted.get("reason") == "Preempted" and preempted.get("message"):
        return f"was preempted ({_UIDS.sub('', preempted['message'])})"
    return f"was evicted ({evicted.get('reason')}: {evicted.get('message')})"


def _next_try(status: Object) -> str:
    requeue = status.get("requeueState") or {}
    count, at = requeue.get("count"), requeue.get("requeueAt")
    return f"; try {count}" + (f", not before {at}" if at else "") if count else ""


def _of_pods(pods: Sequence[Object], events: list[Object]) -> Iterable[str]:
    """What holds up pods that exist, lowest rank first."""
    for pod in sorted(pods, key=rank_of):
        status = pod_status(pod)
        if status.state not in ("pending", "starting"):
            continue
        own = [event for event in events if event.get("involvedObject", {}).get("name") == status.name]
        reason = _unscheduled(pod, own) if status.state == "pending" else _cannot_start(pod, own)
        if reason:
            yield f"{status.who} {reason}"


def _unscheduled(pod: Object, events: list[Object]) -> str | None:
    conditions = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or []}
    message = str((conditions.get("PodScheduled") or {}).get("message") or "")
    if not message:
        message = next((str(event.get("message")) for event in events if event.get("reason") == "FailedScheduling"), "")
    if not message:
        return "waits for the scheduler" if conditions else None
    message = message.partition(". preemption:")[0].partition(" preemption:")[0].rstrip(". ")
    for pattern, hint in _SCHEDULING_HINTS:
        match = re.search(pattern, message)
        if match:
            return f"cannot be scheduled: {match.expand(hint)} ({message})"
    return f"cannot be scheduled: {message}"


def _cannot_start(pod: Object, events: list[Object]) -> str | None:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in _PULLING:
            hint = message or "check --image and image.pullSecrets"
            return f"cannot pull image {container.get('image')} ({reason}): {hint}"
        if "not found" in message and re.search(r"secret|configmap", message):
            return f"cannot start: {message} (store.existingSecret names the Secret with the store's credentials)"
        if reason and reason not in _NORMAL_WAITS:
            return f"cannot start ({reason}): {message}"
    for event in events:
        if event.get("reason") in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"):
            return f"cannot start ({event['reason']}): {event.get('message')}"
    return None


def _wait_for_master(pods: Sequence[Object]) -> Iterable[str]:
    """Workers that only wait: what the master itself waits for is the better reason, where it is known."""
    for pod in sorted(pods, key=rank_of):
        init = (pod.get("status") or {}).get("initContainerStatuses") or []
        if pod_status(pod).state == "starting" and any("running" in (item.get("state") or {}) for item in init):
            yield f"{pod_status(pod).who} waits for the master's name (the operator's init container)"


def _not_created(job: Object, pods: Sequence[Object], events: list[Object]) -> Iterable[str]:
    """What keeps the operator from creating pods: quota, security standard, other admission."""
    if len(pods) >= pods_of(job):
        return
    for event in events:
        message = str(event.get("message") or "")
        if event.get("reason") == "TrainJobResourcesCreationFailed":
            yield f"Kubeflow Trainer cannot make its pods: {message}"
        if event.get("reason") not in ("FailedCreatePod", "FailedCreate", "FailedCreateService"):
            continue
        yield _refused(message)


def _refused(message: str) -> str:
    quota = re.search(r"exceeded quota: ([^,]+), (.*)", message)
    if quota:
        return f"quota {quota[1]} is used up: {quota[2]}"
    unspecified = re.search(r"failed quota: ([^:]+): (must specify .*)", message)
    if unspecified:
        return f"quota {unspecified[1]} wants every pod to say more: {unspecified[2]} (set resources)"
    standard = re.search(r'violates PodSecurity "([^"]+)": (.*)', message)
    if standard and "init-pytorch" in standard[2]:
        return (
            f"the namespace enforces the security standard {standard[1]}, which refuses the operator's own init "
            f"container: give the operator a template with a security context (charts/tsp/README.md)"
        )
    if standard:
        return f"the namespace enforces the security standard {standard[1]}, which refuses the pods: {standard[2]}"
    return f"pods are not created: {message.removeprefix('Error creating: ')}"


def _restarts(pods: Sequence[Object], events: list[Object], *, restarting: bool) -> Iterable[str]:
    """What the last attempt was lost to, as long as that is news."""
    for pod in pods:
        taken = _taken_away(pod)
        if taken:
            yield f"restarting: {taken}"
    cause, exited = culprit([pod_status(pod) for pod in pods]), _first_exit_in(events)
    if cause is not None and not (_follows(cause) and exited is not None):
        yield f"restarted: {_in_words(cause)}"
    elif exited is not None and (restarting or cause is not None):
        yield f"restarting: {exited}"


def _first_exit_in(events: list[Object]) -> str | None:
    """What brought the newest attempt down, by the operator's events about pods that it has replaced already.

    Args: events, the newest first.
    """
    ends: list[tuple[RankEnd, str]] = []
    newest = ""
    for event in events:
        match = re.search(r"Pod: \S*?([^.\s]+) exited with code (\d+)", str(event.get("message") or ""))
        if match is None:
            continue
        newest = newest or _event_time(event)
        if _seconds_between(_event_time(event), newest) > _ONE_FAILURE_SEC:
            break
        ends.append((RankEnd(len(ends), int(match[2])), match[1]))
    # Of one failure the earliest counts.
    ends.reverse()
    cause = root_cause(end for end, _ in ends)
    return next((f"pod {pod} ended with {describe_exit(end.code)}" for end, pod in ends if end == cause), None)


def _seconds_between(earlier: str, later: str) -> float:
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except ValueError:
        return 0.0


def _event_time(event: Object) -> str:
    series: Any = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARS else line[: _MAX_CHARS - 3] + "..."
