"""Do all pods of a run together fit the quotas of its namespace? Pure, but for reading the quotas.

The API server holds every new pod against the quotas by itself, so the first ranks of a run pass, and hold their GPUs,
while the others are refused. Here the pods of a run are added up as the API server's evaluators do.
https://kubernetes.io/docs/concepts/policy/resource-quotas
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from k8s.answers import ForbiddenError
from k8s.client import Cluster
from k8s.names import Object, pods_of
from k8s.quantity import parse_quantity, quantity_text
from tsp.run.status import Finding

logger = logging.getLogger(__name__)

_STANDARD = ("cpu", "memory", "ephemeral-storage")
_OF_BYTES = ("memory", "storage")
_SLACK = 1e-9
"""Sums of tenths of a CPU are not exact."""
_FOR_A_JOB = {"TrainJob": ("services", "count/services", "count/jobs.batch", "count/jobsets.jobset.x-k8s.io")}
_FOR_A_POD = {"PyTorchJob": ("services", "count/services")}
"""What controllers create beside pods: one of each."""
Usage = defaultdict[str, float]


def read_quotas(cluster: Cluster) -> list[Object] | None:
    """The quotas of the namespace; None if the user may not read them."""
    try:
        return list(cluster.items(cluster.namespaced("v1", "resourcequotas")))
    except ForbiddenError as error:
        logger.debug("%s", error)
        return None


def check_quotas(
    quotas: Iterable[Object], objects: Sequence[Object], pods: Sequence[tuple[Object, int]]
) -> Iterator[Finding]:
    """Is there room in every quota for a release and for the pods that its controller will make?

    What is larger than a whole quota is refused, as is an object for which there is no room now, since installing would
    fail. Pods for which there is no room now are a warning: others' may end.
    Args: pods, one of each kind, as the API server would store it, and how many there are.
    """
    at_once = _usage_of_objects(objects)
    for quota in quotas:
        usage = _usage()
        _add(usage, at_once)
        _add(usage, _usage_of_controllers(objects))
        for pod, count in pods:
            if _is_scoped_to(quota, pod):
                _add(usage, pod_usage(pod), times=count)
        yield from _check_quota(quota, usage, at_once)


def _check_quota(quota: Object, usage: Usage, at_once: Usage) -> Iterator[Finding]:
    status = quota.get("status") or {}
    hard = status.get("hard") or quota["spec"].get("hard") or {}
    never, now, full = [], [], []
    for key, text in sorted(hard.items()):
        limit, used = parse_quantity(text), parse_quantity((status.get("used") or {}).get(key, "0")) or 0.0
        if limit is None or not usage[key]:
            continue
        left = max(0.0, limit - used)
        is_bytes = key.endswith(_OF_BYTES) or "hugepages-" in key
        asked = f"{key} {quantity_text(usage[key], is_bytes=is_bytes)}"
        if _exceeds(usage[key], limit):
            never.append(f"{asked} of {text}")
        elif _exceeds(at_once[key], left):
            now.append(f"{key} (all {text} are used)")
        elif _exceeds(usage[key], left):
            full.append(f"{asked}, where {quantity_text(left, is_bytes=is_bytes)} of {text} are left")
    what = f"quota {quota['metadata']['name']}"
    if never:
        advice = "request less, or have an administrator raise it"
        yield Finding(what, "error", f"the run needs more than it allows in all ({'; '.join(never)}): {advice}")
    elif now:
        advice = "delete runs that have ended, or have an administrator raise it"
        yield Finding(what, "error", f"it has no room for another of {', '.join(now)}: {advice}")
    elif full:
        yield Finding(what, "warning", f"the run needs {'; '.join(full)}: some pods wait until others have ended")


def _exceeds(asked: float, limit: float) -> bool:
    return asked > limit + _SLACK * max(1.0, abs(limit))


def _usage() -> Usage:
    return defaultdict(float)


def _add(total: Usage, more: Mapping[str, float], *, times: int = 1) -> None:
    for key, amount in more.items():
        total[key] += times * amount


def _count(names: Iterable[str]) -> Usage:
    found = _usage()
    for name in names:
        found[name] += 1
    return found


def _usage_of_objects(objects: Sequence[Object]) -> Usage:
    """Of what Helm creates at once, its own record included."""
    found = _count(["secrets", "count/secrets"] if objects else [])
    for item in objects:
        group, resource = item["apiVersion"].rpartition("/")[0], f"{item['kind'].lower()}s"
        _add(found, _count([f"count/{resource}.{group}"] if group else [resource, f"count/{resource}"]))
    return found


def _usage_of_controllers(objects: Sequence[Object]) -> Usage:
    """Of what controllers create beside pods."""
    found = _usage()
    for item in objects:
        _add(found, _count(_FOR_A_JOB.get(item["kind"], ())))
        if item["kind"] in _FOR_A_POD:
            _add(found, _count(_FOR_A_POD[item["kind"]]), times=pods_of(item))
    return found


def pod_usage(pod: Object) -> Usage:
    """What a pod counts for in a quota, by the names that quotas use."""
    requests, limits = _sum(pod, "requests"), _sum(pod, "limits")
    found = _count(["pods", "count/pods"])
    _add(found, {f"requests.{resource}": amount for resource, amount in requests.items()})
    _add(found, {key: amount for key, amount in requests.items() if key in _STANDARD or key.startswith("hugepages-")})
    _add(found, {f"limits.{resource}": limits[resource] for resource in _STANDARD if resource in limits})
    for claim in _claims_made_for(pod):
        storage = parse_quantity(_resources(claim, "requests").get("storage", "0")) or 0.0
        kind = f"{claim.get('storageClassName')}.storageclass.storage.k8s.io"
        _add(found, {"requests.storage": storage, f"{kind}/requests.storage": storage})
        _add(found, _count(f"{prefix}persistentvolumeclaims" for prefix in ("", "count/", f"{kind}/")))
    return found


def _claims_made_for(pod: Object) -> Iterator[Object]:
    """Specs of the volume claims that are made for each pod."""
    for volume in pod["spec"].get("volumes") or []:
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template:
            yield template.get("spec") or {}


def _resources(item: Object, kind: str) -> Mapping[str, Any]:
    resources = item.get("resources") or {}
    # What is limited is requested, as the API server has it.
    defaults = (resources.get("limits") or {}) if kind == "requests" else {}
    return {**defaults, **(resources.get(kind) or {})}


def _amounts(container: Object, kind: str) -> Usage:
    found = _usage()
    _add(found, {key: parse_quantity(text) or 0.0 for key, text in _resources(container, kind).items()})
    return found


def _sum(pod: Object, kind: str) -> Usage:
    """Of a pod's containers. Init containers run before them, one by one; those that keep running, beside them."""
    spec, total, sidecars, before = pod["spec"], _usage(), _usage(), _usage()
    for container in spec.get("containers") or []:
        _add(total, _amounts(container, kind))
    for container in spec.get("initContainers") or []:
        own = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, own)
            own = _usage()
        _add(own, sidecars)
        before.update({key: max(amount, before[key]) for key, amount in own.items()})
    _add(total, sidecars)
    total.update({key: max(amount, total[key]) for key, amount in before.items()})
    overhead = {key: parse_quantity(text) or 0.0 for key, text in (spec.get("overhead") or {}).items()}
    _add(total, {key: amount for key, amount in overhead.items() if kind == "requests" or key in total})
    return total


def _is_scoped_to(quota: Object, pod: Object) -> bool:
    """Whether a quota counts a pod."""
    spec = quota["spec"]
    terms = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or []]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return all(_matches(term, pod["spec"]) for term in terms)


def _matches(term: Object, spec: Object) -> bool:
    name, operator = term["scopeName"], term["operator"]
    if name == "PriorityClass":
        priority, values = spec.get("priorityClassName") or None, term.get("values") or []
        if operator in ("Exists", "DoesNotExist"):
            return (priority is not None) is (operator == "Exists")
        return (priority in values) is (operator == "In")
    is_terminating = spec.get("activeDeadlineSeconds") is not None
    return {
        "Terminating": is_terminating,
        "NotTerminating": not is_terminating,
        "BestEffort": _is_best_effort(spec),
        "NotBestEffort": not _is_best_effort(spec),
        "CrossNamespacePodAffinity": _looks_into_namespaces(spec),
    }.get(name, False)


def _is_best_effort(spec: Object) -> bool:
    """Whether no container asks for CPU or memory."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    return not any(_resources(item, "requests").get(key) for item in containers for key in ("cpu", "memory"))


def _looks_into_namespaces(spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or [])
        soft = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        terms += [item.get("podAffinityTerm") or {} for item in soft]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
