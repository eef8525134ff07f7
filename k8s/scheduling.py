"""The scheduler's rules for a node: selector, required affinity, taints, cordon. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from k8s.names import Object


def can_land(node: Object, pod: Object) -> bool:
    """Whether selector, required affinity and taints let a pod onto a node that is not cordoned."""
    return why_not(node, pod) is None


def why_not(node: Object, pod: Object) -> str | None:
    """The reason why a pod cannot run on a node: ``is cordoned``, ``has the taint team=other:NoSchedule``; None if
    nothing does."""
    spec, labels = node.get("spec") or {}, node["metadata"].get("labels") or {}
    if spec.get("unschedulable"):
        return "is cordoned"
    selector = (pod.get("nodeSelector") or {}).items()
    lacking = ", ".join(f"{key}={value}" for key, value in selector if labels.get(key) != value)
    if lacking:
        return f"lacks the label {lacking}"
    tolerations = pod.get("tolerations") or []
    for taint in spec.get("taints") or []:
        if not _tolerated(taint, tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"has the taint {taint['key']}{value}:{taint.get('effect')}"
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None or any(_term_matches(term, node) for term in required.get("nodeSelectorTerms") or []):
        return None
    return "does not match the node affinity"


def _tolerated(taint: Object, tolerations: Sequence[Object]) -> bool:
    if taint.get("effect") == "PreferNoSchedule":
        return True
    for item in tolerations:
        key_fits = item.get("key") in (None, "", taint["key"])
        value_fits = item.get("operator") == "Exists" or (item.get("value") or "") == (taint.get("value") or "")
        effect_fits = item.get("effect") in (None, "", taint["effect"])
        if key_fits and value_fits and effect_fits:
            return True
    return False


def _term_matches(term: Object, node: Object) -> bool:
    """One alternative of a node affinity; an empty one matches nothing."""
    labels = node["metadata"].get("labels") or {}
    expressions, names = term.get("matchExpressions") or [], term.get("matchFields") or []
    fields = {"metadata.name": node["metadata"]["name"]}
    return bool(expressions or names) and (
        all(_requirement_holds(item, labels) for item in expressions)
        and all(_requirement_holds(item, fields) for item in names)
    )


def _requirement_holds(requirement: Object, labels: Mapping[str, str]) -> bool:
    value, operator = labels.get(requirement["key"]), requirement["operator"]
    values = requirement.get("values") or []
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator == "NotIn":
        return value not in values
    if value is None:
        return False
    if operator == "In":
        return value in values
    # Gt and Lt compare whole numbers; anything else matches nothing.
    try:
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    except ValueError:
        return False
