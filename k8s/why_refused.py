"""Why no pods are created: quota, Pod Security Standard, or other admission. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from k8s.names import Object, pods_of
from k8s.why_gone import event_time, ranks_of_pod, seconds_between

_OF_TRAINJOBS = "TrainJobResourcesCreationFailed"
REASONS = ("FailedCreatePod", "FailedCreate", "FailedCreateService", _OF_TRAINJOBS)
"""Of the events that explain it."""


def not_created(job: Object, pods: Sequence[Object], events: list[Object], present: int) -> Iterable[str]:
    """The reason why the operator cannot create pods: quota, Pod Security Standard, other admission.

    Args: events, of the job and of pods that are gone; present, how many pods there are, of which ``pods`` may be a
        part.
    """
    if present >= pods_of(job):
        return
    created = {str(pod["metadata"]["name"]) for pod in pods}
    for event in events:
        message = str(event.get("message") or "")
        refused = re.search(r'pods "([^"]+)" is forbidden', message)
        if refused and (refused[1] in created or _was_created(refused[1], event, job, events)):  # meanwhile
            continue
        if event.get("reason") == _OF_TRAINJOBS:
            yield f"Kubeflow Trainer cannot make its pods: {message}"
        elif event.get("reason") in REASONS:
            yield _refused(message)


def _was_created(pod_name: str, refusal: Object, job: Object, events: Iterable[Object]) -> bool:
    """Whether a later event is about a pod of the same ranks: the operator, which writes no more than so many events,
    may tell of a refusal long after it, and of nothing that came later.
    """
    ranks = ranks_of_pod(pod_name, job)
    return ranks is not None and any(
        ranks_of_pod(str(involved.get("name")), job) == ranks
        and seconds_between(event_time(refusal), event_time(event)) > 0
        for event in events
        if (involved := event.get("involvedObject") or {}).get("kind") == "Pod"
    )


def _refused(message: str) -> str:
    quota = re.search(r"exceeded quota: ([^,]+), (.*)", message)
    if quota:
        return f"quota {quota[1]} is exceeded: {quota[2]}"
    unspecified = re.search(r"failed quota: ([^:]+): (must specify .*)", message)
    if unspecified:
        return f"quota {unspecified[1]} requires more of every pod: {unspecified[2]} (set resources)"
    standard = re.search(r'violates PodSecurity "([^"]+)": (.*)', message)
    if standard and "init-pytorch" in standard[2]:
        return (
            f"the namespace enforces the Pod Security Standard {standard[1]}, which refuses the operator's own "
            "init container: give the operator a template with a security context (charts/tsp/README.md)"
        )
    if standard:
        return f"the namespace enforces the Pod Security Standard {standard[1]}, which refuses the pods: {standard[2]}"
    return f"pods are not created: {message.removeprefix('Error creating: ')}"
