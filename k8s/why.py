"""Why a run waits or failed, in one line, from its job, pods and events. Pure.

No single object contains the reason: it is scattered over conditions, container states and events, in the words of the
scheduler, the kubelet, the admission chain, the training operator, Kubeflow Trainer and Kueue. Each of ``why_pod``,
``why_gone``, ``why_queue`` and ``why_refused`` reads one kind of text; here they are ordered, so that a cause comes
before its effects. A failed run has one cause: the rank that ended first, unless it only reports a lost peer, or a pod
that was removed. Unknown texts are passed on unchanged, never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from k8s.job_apis import JOB_APIS
from k8s.names import (
    GPU_RESOURCE_ANNOTATION,
    PYTORCHJOBS,
    Object,
    pods_of,
    ranks_of,
    resource_of,
)
from k8s.status import (
    culprit,
    is_suspended,
    pod_status,
    state_of,
    true_conditions,
)
from k8s.why_gone import event_time, how_pods_went
from k8s.why_pod import follows, held_up, how_it_ended, in_words, out_of_reach, taken_away, wait_in_init
from k8s.why_queue import TOO_LONG, held_back
from k8s.why_refused import not_created

_MAX_CHARS = 300
_CONTROLLERS = {row.resource: row.the_controller for row in JOB_APIS.values()}


def why(
    job: Object,
    pods: Sequence[Object] = (),
    events: Iterable[Object] = (),
    workload: Object | None = None,
    *,
    present: int | None = None,
) -> str | None:
    """One line on why a run is not running as it should, or None if it is.

    Args: events, of the job, its pods and their volume claims; workload, Kueue's object for the job; present, how many
        pods the run has, where ``pods`` are not all of them.
    """
    state = state_of(job, pods)
    if state in ("succeeded", "cancelled"):
        return None
    latest = _latest_first(events)
    if state == "failed":
        return _short(_failure(job, pods, latest))
    if is_suspended(job):
        return _short(held_back(job, workload))
    waiting = [pod for pod in pods if pod_status(pod).state == "pending"]
    reasons = [
        *out_of_reach(pods),
        *held_up([pod for pod in pods if pod not in waiting], latest),
        *not_created(job, pods, latest, len(pods) if present is None else present),
        # After refusals: a rank may wait for the node of a master that could not be created.
        *held_up(waiting, latest),
    ]
    if state == "restarting" and reasons and (gone := how_pods_went(job, pods, latest)):
        reasons[0] = f"{gone}; {reasons[0]}"
    elif state == "restarting" or not reasons:
        neglected = state == "running" and _is_not_replaced(job, pods)
        for text in _restarts(job, pods, latest):
            ended = text.partition(": ")[2]
            reasons.append(f"the training operator replaces no pod (is it running?): {ended}" if neglected else text)
    reasons += wait_in_init(pods)
    if not reasons and state != "restarting":
        reasons += _neglected(job, len(pods) if present is None else present)
    return _short(_half_placed(job, pods) + reasons[0]) if reasons else None


def _neglected(job: Object, present: int) -> Iterable[str]:
    """Pods that a controller should have made at once: it does not run, or cannot reach the API server."""
    controller, status = _CONTROLLERS.get(resource_of(job)), job.get("status") or {}
    if controller is None or present >= pods_of(job):
        return
    if not present and not (status.get("conditions") or status.get("jobsStatus")):
        yield f"no controller has picked it up yet: is {controller} running?"
    else:
        yield (
            f"has {present} of its {pods_of(job)} pods, and {controller} creates no others: is it running, and may it "
            "create pods?"
        )


def _half_placed(job: Object, pods: Sequence[Object]) -> str:
    """The GPUs that placed ranks of a run hold while others wait for the scheduler."""
    if resource_of(job) not in _CONTROLLERS:
        return ""
    states = [pod_status(pod) for pod in pods]
    placed = [status for status in states if status.state in ("starting", "running")]
    waiting = [status for status in states if status.state == "pending"]
    if not placed or not waiting:
        return ""
    holds = (
        "GPUs" if GPU_RESOURCE_ANNOTATION in (job["metadata"].get("annotations") or {}) else "their requested resources"
    )
    held = f"{sum(len(status.ranks) for status in placed)} of {ranks_of(job)} ranks hold {holds}"
    if resource_of(job) == PYTORCHJOBS and any(status.rank == 0 for status in waiting):
        # In the operator's init container, which has no such limit.
        return f"{held} and wait for the master (masterFirst, --queue and --gang prevent it); "
    return f"{held}, for placement_timeout_sec at most; "


def why_pod(pod: Object) -> str | None:
    """One line on why a single pod waits or failed, by what the pod itself says."""
    held = [*out_of_reach([pod]), *held_up([pod], []), *wait_in_init([pod])]
    return _short(next(iter(held), None) or how_it_ended(pod))


def _failure(job: Object, pods: Sequence[Object], events: list[Object]) -> str:
    cause = culprit([pod_status(pod) for pod in pods])
    failed = true_conditions(job.get("status") or {})["Failed"]
    if failed.get("reason") == "DeadlineExceeded" or "active longer than specified deadline" in failed.get(
        "message", ""
    ):
        return f"{TOO_LONG} (--deadline, runPolicy.activeDeadlineSeconds)"
    for pod in pods:
        taken = taken_away(pod)
        if taken and (cause is None or pod_status(pod).name == cause.name):
            return taken
    gone = how_pods_went(job, pods, events)
    if cause is not None and not (follows(cause) and gone is not None):
        return in_words(cause)
    return gone or str(failed.get("message") or failed.get("reason") or "the operator gives no reason")


def _restarts(job: Object, pods: Sequence[Object], events: list[Object]) -> Iterable[str]:
    """The cause of the last attempt's end, as long as it can be seen."""
    for pod in pods:
        taken = taken_away(pod)
        if taken:
            yield f"{'restarted' if _is_replaced(job, pod, pods) else 'restarting'}: {taken}"
    cause, gone = culprit([pod_status(pod) for pod in pods]), how_pods_went(job, pods, events)
    if cause is not None and not (follows(cause) and gone is not None):
        yield f"restarted: {in_words(cause)}"
    elif gone is not None:
        yield f"{'restarted' if state_of(job) == 'running' else 'restarting'}: {gone}"


def _is_replaced(job: Object, lost: Object, pods: Sequence[Object]) -> bool:
    """Whether another pod has taken the place of one that a Job keeps for its end. A list reads only pods that are not
    well: there the Job's own count tells.
    """
    ranks = pod_status(lost).ranks
    is_back = any(pod_status(pod).ranks == ranks and pod_status(pod).state == "running" for pod in pods)
    return is_back or int((job.get("status") or {}).get("ready") or 0) >= pods_of(job)


def _is_not_replaced(job: Object, pods: Sequence[Object]) -> bool:
    """Whether there is an ended pod that a working operator would have replaced at once."""
    lost = (pod for pod in pods if pod_status(pod).state == "failed" and "deletionTimestamp" not in pod["metadata"])
    return resource_of(job) == PYTORCHJOBS and any(lost)


def _latest_first(events: Iterable[Object]) -> list[Object]:
    """Of one second in the order of their objects and words: the API server lists them in that of random names."""
    by_words = sorted(
        events, key=lambda event: (str((event.get("involvedObject") or {}).get("name")), str(event.get("message")))
    )
    return sorted(by_words, key=event_time, reverse=True)


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARS else line[: _MAX_CHARS - 3] + "..."
