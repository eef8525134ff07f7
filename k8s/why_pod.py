"""Why a pod waits, does not start, or has ended, in the words of scheduler, kubelet and program. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from k8s.names import Object, claims_of, main_container_of, rank_of
from k8s.status import (
    PodStatus,
    pod_status,
    termination,
    true_conditions,
)
from k8s.why_gone import PREEMPTED, TAKEN_BY_TAINT
from tsp.run.status import PEER_LOST, TERMINATED, RankEnd, describe_end

_LOG_PREFIX = re.compile(
    r"^(?:\d{4}-\d\d-\d\d[T ]\S+ )?(?:rank \d+ )?(?:(?:ERROR|CRITICAL|WARNING|INFO):?\s+)?", re.ASCII
)
_LEADERS_LINE = re.compile(r"(?:\S+Z )?rank (\d+) ERROR (ended with exit code .*)")
"""The last line of a pod with several ranks (``tsp.run.pod_ranks``)."""
_PULLING = {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_PAST_MOUNTING = {"Pulling", "Pulled", "Created", "Started"}
"""Events of a pod whose volumes and sandbox are there by now, whatever failed before."""
_CRASHES = "CrashLoopBackOff"
_NORMAL_WAITS = {"ContainerCreating", "PodInitializing"}
_DISRUPTIONS = {
    "PreemptionByScheduler": PREEMPTED,
    "PreemptionByKubeScheduler": PREEMPTED,
    "DeletionByTaintManager": TAKEN_BY_TAINT,
    "EvictionByEvictionAPI": "was evicted (its node is being drained)",
    "DeletionByPodGC": "was on a node that is gone",
    "TerminationByKubelet": "was ended by its node (pressure or shutdown)",
}
_SCHEDULER = "default-scheduler"
_OPERATORS_INIT = "init-pytorch"
_UNBOUND = re.compile(r"unbound immediate PersistentVolumeClaims|binding volumes:")
_SCHEDULING_HINTS = (
    (r'persistentvolumeclaim "([^"]+)" not found', r"the volume claim \1 does not exist: create it or set data.claim"),
    (r"volume node affinity conflict", "its volume is in a zone without a suitable node"),
    (r"Insufficient ([\w./-]*gpu[\w/-]*)", r"not enough free \1"),
    (r"Insufficient ([\w./-]*[\w/-])", r"not enough \1 on the nodes: lower resources.requests.\1"),
    (r"untolerated taint (\{[^}]*\})", r"the nodes have the taint \1: add to tolerations"),
    (r"didn't match Pod's node affinity/selector", "no node matches the node selector and the GPU plan"),
    (r"didn't match pod affinity rules", "the master has no node yet, or its own pod affinity matches none"),
    (r"were unschedulable", "the nodes are cordoned"),
)


def in_words(pod: PodStatus) -> str:
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


def follows(pod: PodStatus) -> bool:
    """Whether its end only reports or forwards another's."""
    return pod.ended is not None and pod.ended.exit_code in (PEER_LOST, TERMINATED) and pod.ended.reason != "OOMKilled"


def how_it_ended(pod: Object) -> str | None:
    """Why a pod failed or was restarted; None if it was not."""
    status = pod_status(pod)
    if status.state != "failed" and not status.restarts:
        return None
    return taken_away(pod) or (in_words(status) if status.ended and status.ended.exit_code else None)


def taken_away(pod: Object) -> str | None:
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
    return _failed_init(pod)


def _failed_init(pod: Object) -> str | None:
    """An init container, as a service mesh adds them, that ended with an error: the pod's own then never starts."""
    status = pod.get("status") or {}
    for container in status.get("initContainerStatuses") or []:
        ended = termination(container)
        if ended is not None and ended.exit_code and not container.get("ready"):
            last = ended.message.strip().splitlines()[-1:] or ([ended.reason] if ended.reason != "Error" else [])
            said = "".join(f": {line.strip()}" for line in last)
            return (
                f"{pod_status(pod).who} has the init container {container.get('name')}, which ended with exit code "
                + (f"{ended.exit_code}{said}")
            )
    return None


def held_up(pods: Sequence[Object], events: list[Object]) -> Iterable[str]:
    """Why existing pods do not run, lowest rank first."""
    for pod in sorted(pods, key=rank_of):
        status = pod_status(pod)
        if status.state not in ("pending", "starting"):
            continue
        own = _events_of(status.name, events)
        reason = _unscheduled(pod, own, events) if status.state == "pending" else _cannot_start(pod, own)
        if reason:
            yield f"{status.who} {reason}"


def _events_of(name: str, events: Iterable[Object], kind: str = "Pod") -> list[Object]:
    involved = ((event, event.get("involvedObject") or {}) for event in events)
    return [event for event, item in involved if item.get("name") == name and item.get("kind", kind) == kind]


def _unscheduled(pod: Object, own: list[Object], events: list[Object]) -> str | None:
    conditions = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or []}
    message = str((conditions.get("PodScheduled") or {}).get("message") or "")
    if not message:
        message = next((str(event.get("message")) for event in own if event.get("reason") == "FailedScheduling"), "")
    if not message:
        # Without a condition its node may be chosen already, and a volume be made for it there.
        volume = _unbound(pod, events)
        scheduler = str(pod["spec"].get("schedulerName") or _SCHEDULER)
        if not conditions and scheduler != _SCHEDULER:
            return f"waits for the scheduler {scheduler} (schedulerName): is it running?"
        return f"waits for the scheduler{f'; {volume}' if volume else ''}" if conditions or volume else None
    message = message.partition(". preemption:")[0].partition(" preemption:")[0].rstrip(". ")
    if _UNBOUND.search(message):
        return f"cannot be scheduled: {_unbound(pod, events) or 'a volume claim is not bound'} ({message})"
    for pattern, hint in _SCHEDULING_HINTS:
        match = re.search(pattern, message)
        if match:
            return f"cannot be scheduled: {match.expand(hint)} ({message})"
    return f"cannot be scheduled: {message}"


def _unbound(pod: Object, events: Iterable[Object]) -> str | None:
    """The volume claim of a pod that is not bound, and the message of its controller, as far as visible."""
    claims = claims_of(pod)
    said = [(claim, event) for claim in claims for event in _events_of(claim, events, "PersistentVolumeClaim")]
    # Between failures, a controller reports that it retries, or waits for the scheduler.
    for claim, event in sorted(said, key=lambda item: item[1].get("type") == "Normal"):
        return f"the volume claim {claim} is not bound: {str(event.get('message')).strip()}"
    if not claims:
        return None
    which = f"the volume claim {claims[0]}" if len(claims) == 1 else f"one of the volume claims {', '.join(claims)}"
    return f"{which} is not bound: see 'kubectl describe pvc {claims[0]}'"


def _cannot_start(pod: Object, events: list[Object]) -> str | None:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason == _CRASHES and (failed := _failed_init(pod)):
            return failed.removeprefix(f"{pod_status(pod).who} ")
        if reason in _PULLING:
            hint = message or "check --image and image.pullSecrets"
            return f"cannot pull image {container.get('image')} ({reason}): {hint}"
        if "not found" in message and re.search(r"secret|configmap", message):
            return f"cannot start: {message} (store.existingSecret names the Secret with the store's credentials)"
        if reason and reason not in _NORMAL_WAITS:
            return f"cannot start ({reason}): {message}"
    for event in events:
        if event.get("reason") in _PAST_MOUNTING:
            break
        if event.get("reason") in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"):
            message = str(event.get("message"))
            lost = re.search(r'configmap "([^"]+)-config" not found', message)
            if lost and pod["metadata"]["name"].startswith(f"{lost[1]}-"):
                return (
                    f"cannot start, as the run's ConfigMap was deleted: 'tspctl cancel {lost[1]}', then 'tspctl resume "
                    f"{lost[1]}' creates it again"
                )
            return f"cannot start ({event['reason']}): {message}"
    return None


def out_of_reach(pods: Sequence[Object]) -> Iterable[str]:
    """Pods on nodes that do not answer: the last word of the kubelet, that they run, stays in their status."""
    for pod in sorted(pods, key=rank_of):
        status, node = pod_status(pod), pod["spec"].get("nodeName")
        if status.state == "running" and _is_cut_off(pod):
            yield f"{status.who} is on node {node}, which does not answer"
        elif status.state == "terminating" and _is_cut_off(pod):
            yield (
                f"{status.who} cannot end, since its node {node} does not answer, and is replaced only then: have an "
                "administrator restart or remove the node"
            )


def _is_cut_off(pod: Object) -> bool:
    """Whether the node controller marked a pod as not ready; a kubelet would give a reason, or count its containers."""
    conditions = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or []}
    ready = conditions.get("Ready") or {}
    return (
        ready.get("status") == "False"
        and not ready.get("reason")
        and (conditions.get("ContainersReady") or {}).get("status") == "True"
    )


def wait_in_init(pods: Sequence[Object]) -> Iterable[str]:
    """Pods in an init container: the operator's, which waits for the master, or one that a webhook added."""
    for pod in sorted(pods, key=rank_of):
        name = _current_init(pod) if pod_status(pod).state == "starting" else None
        if name == _OPERATORS_INIT:
            yield f"{pod_status(pod).who} waits for the master's name (the operator's init container)" + "".join(
                f": {text}" for text in _not_ready(pods)
            )
        elif name is not None:
            yield f"{pod_status(pod).who} waits for its init container {name}"


def _current_init(pod: Object) -> str | None:
    """The init container that runs; not a sidecar among them, which keeps running."""
    spec, status = pod["spec"], pod.get("status") or {}
    sidecars = {item["name"] for item in spec.get("initContainers") or [] if item.get("restartPolicy") == "Always"}
    for item in status.get("initContainerStatuses") or []:
        if "running" in (item.get("state") or {}) and item.get("name") not in sidecars:
            return str(item.get("name"))
    return None


def _not_ready(pods: Sequence[Object]) -> Iterable[str]:
    """Why a master that runs has no name: another container of its pod, as a service mesh adds one, has ended."""
    for pod in pods:
        main = main_container_of(pod).get("name")
        for container in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = termination(container)
            if (
                rank_of(pod) == 0
                and container.get("name") != main
                and ended is not None
                and pod_status(pod).ended is None
            ):
                yield (
                    f"the pod of rank 0 is not ready, since its container {container['name']} ended with exit code "
                    f"{ended.exit_code}"
                )
