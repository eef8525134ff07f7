"""Which nodes ranks can land on, and the downscale factor that follows from their GPU memory. Pure.

The scheduler's rules that decide on a node (selector, affinity, taints, cordon) are applied to the pod as the chart
renders it, so that what users change in the chart's values counts here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from k8s.quantity import parse_quantity
from tsp.config.cards import Card, explain_precision, precision_for
from tsp.config.run import DOWNSCALES, Precision
from tsp.config.sizing import DOWNSCALE_MIN_MIB, downscale_for, gpu_memory_mib
from tsp.errors import ConfigError

Object = Mapping[str, Any]

_SHOWN_NODES = 4
_UNLIMITED = 10**6


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuNode:
    """A node that ranks can land on."""

    name: str
    gpus: int
    """Allocatable; whether they are free now is the scheduler's business."""
    ranks: int
    """Ranks of the run that fit on it when it is empty, in whole pods: GPUs, CPU and memory."""
    label: str | None
    """Its memory label, as written."""
    memory_mib: int | None
    """A rank's part of the label, units repaired; None where there is none, or none that is a size."""
    slots: int = 1
    """Ranks that share one card in time, and its memory; more than one: time-slicing."""
    cpus: float = 0.0
    """Allocatable cores for each of its GPUs; 0 where it does not say."""
    card: Card | None = None
    """What its labels say of the card; None where they say nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePlan:
    """What follows from the nodes."""

    downscale: int | None
    """None: the pods decide on the cards they find."""
    memory_values: tuple[str, ...] = ()
    """Values of the memory label that ranks may land on; empty: any node."""
    compute_majors: tuple[str, ...] = ()
    """Major compute capabilities that ranks may land on, where a number format asks for some; empty: any."""
    nodes: tuple[GpuNode, ...] = ()
    """Those that ranks may land on, where they are known."""
    gpus: int | None = None
    """Allocatable GPUs on the nodes that ranks may land on; None: the nodes cannot be seen, or no GPU is asked for."""
    ranks: int = 0
    """Ranks of the run that fit on those nodes when they are empty."""
    explanation: tuple[str, ...] = ()


def nodes_for(
    nodes: Iterable[Object], pod: Object, *, gpu_resource: str, memory_label: str, gpus_per_pod: int = 1
) -> list[GpuNode]:
    """The nodes with GPUs that a pod can land on, by name; those with fewer than it holds fit no rank.

    Args: pod, the spec of its template; gpus_per_pod, its GPUs, a rank for each.
    """
    found = []
    for node in nodes:
        gpus = int((node.get("status") or {}).get("allocatable", {}).get(gpu_resource, 0))
        if gpus < 1 or not can_land(node, pod):
            continue
        labels = node["metadata"].get("labels") or {}
        label, slots = labels.get(memory_label), _slots(labels)
        memory_mib = _memory_mib(label)
        found.append(
            GpuNode(
                name=str(node["metadata"]["name"]),
                gpus=gpus,
                ranks=min(gpus // gpus_per_pod, _room(node, pod)) * gpus_per_pod,
                label=label,
                memory_mib=None if memory_mib is None else memory_mib // slots,
                slots=slots,
                cpus=(parse_quantity((node.get("status") or {}).get("allocatable", {}).get("cpu", "")) or 0.0) / gpus,
                card=_card(labels, memory_mib),
            )
        )
    return sorted(found, key=lambda item: item.name)


def _slots(labels: Mapping[str, str]) -> int:
    """How many slots each card of a node is cut into, as the device plugin's labels say it."""
    replicas = str(labels.get("nvidia.com/gpu.replicas") or "1")
    shared = str(labels.get("nvidia.com/gpu.product") or "").endswith("-SHARED")
    found = int(replicas) if replicas.isdigit() else 1
    return max(found, 2) if shared else max(found, 1)


def _card(labels: Mapping[str, str], memory_mib: int | None) -> Card | None:
    """The card that NVIDIA's feature discovery describes."""
    name = labels.get("nvidia.com/gpu.product")
    major, minor = (labels.get(f"nvidia.com/gpu.compute.{part}", "") for part in ("major", "minor"))
    if name is None and not major.isdecimal():
        return None
    compute = (int(major), int(minor) if minor.isdecimal() else 0) if major.isdecimal() else None
    return Card(name=name or "GPU", memory_mib=memory_mib or 0, compute=compute)


def with_room(nodes: Sequence[GpuNode], gpus_per_pod: int) -> tuple[list[GpuNode], tuple[str, ...]]:
    """The nodes that have the GPUs of a pod, and a line on those that do not, where no node does."""
    able = [node for node in nodes if node.gpus >= gpus_per_pod]
    if able or not nodes:
        return able, ()
    largest = max(nodes, key=lambda node: node.gpus)
    return [], (f"no node has the {gpus_per_pod} GPUs of a pod; most has {largest.name}, {largest.gpus}",)


def nodes_with(precision: Precision, nodes: Sequence[GpuNode]) -> list[GpuNode]:
    """The nodes whose cards compute in a number format that was asked for; those without labels are left in.

    Raises: ConfigError naming a card if there is none.
    """
    able, reason = [], None
    for node in nodes:
        try:
            precision_for(precision, [node.card] if node.card else [Card(name=node.name, memory_mib=0)])
        except ConfigError as error:
            reason = error
        else:
            able.append(node)
    if not able and reason is not None:
        raise reason
    return able


def explain_cards(precision: Precision, nodes: Sequence[GpuNode]) -> tuple[str, ...]:
    """The number format that ranks on any of these nodes will share, in one line; none where no label tells."""
    cards = [node.card for node in nodes if node.card is not None and node.card.compute is not None]
    return (explain_precision(precision, cards),) if cards else ()


def _room(node: Object, pod: Object) -> int:
    """Pods that a node's CPU and memory are enough for; what is not a quantity limits nothing."""
    allocatable = (node.get("status") or {}).get("allocatable", {})
    room = [_UNLIMITED]
    for key in ("cpu", "memory"):
        requests = [
            (item.get("resources") or {}).get("requests", {}).get(key, 0) for item in pod.get("containers") or []
        ]
        wanted, there = sum(parse_quantity(item) or 0.0 for item in requests), parse_quantity(allocatable.get(key, ""))
        if wanted > 0 and there is not None:
            room.append(int(there // wanted))
    return min(room)


def _memory_mib(label: str | None) -> int | None:
    try:
        return None if label is None else gpu_memory_mib(label)
    except ConfigError:
        return None


def can_land(node: Object, pod: Object) -> bool:
    """Whether selector, required affinity and taints let a pod onto a node that is not cordoned."""
    spec, labels = node.get("spec") or {}, node["metadata"].get("labels") or {}
    if spec.get("unschedulable"):
        return False
    if any(labels.get(key) != value for key, value in (pod.get("nodeSelector") or {}).items()):
        return False
    tolerations = pod.get("tolerations") or []
    if not all(_tolerated(taint, tolerations) for taint in spec.get("taints") or []):
        return False
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_term_matches(term, node) for term in required.get("nodeSelectorTerms") or [])


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


def plan_nodes(nodes: Sequence[GpuNode], *, gpus: int, downscale: str, precision: Precision = "auto") -> NodePlan:
    """The factor, the nodes that keep to it and to the number format, and what they mean for the run.

    Args and errors: as plan_sizes; precision, as asked for.
    """
    able = nodes_with(precision, nodes)
    plan = plan_sizes(able, gpus=gpus, downscale=downscale)
    lines = explain_cards(precision, plan.nodes)
    majors: tuple[str, ...] = ()
    if len(able) < len(nodes):
        lines = (*lines, f"ranks keep off {_shown([node for node in nodes if node not in able])}, for {precision}")
        majors = tuple(sorted({str(node.card.compute[0]) for node in able if node.card and node.card.compute}))
    return replace(plan, compute_majors=majors, explanation=(*plan.explanation, *lines))


def plan_sizes(nodes: Sequence[GpuNode], *, gpus: int, downscale: str) -> NodePlan:
    """The factor and the nodes that keep to it.

    Args: nodes, those that ranks can land on; gpus, ranks; downscale, ``auto`` or a factor.
    Returns: with ``auto`` the factor of the smallest GPU that ranks can land on. Nodes whose memory is unknown are left
        out, unless the others have too few GPUs: then nothing is narrowed and the pods decide.
    Raises: ConfigError if no GPU is large enough, or two ranks could meet on one time-sliced card.
    """
    shared = [node for node in nodes if node.slots > 1]
    if shared and gpus > 1:
        raise ConfigError(
            f"the cards of {_shown(shared)} are time-sliced, and NCCL refuses two ranks on one card: keep ranks off "
            f"these nodes (nodeSelector or affinity of the chart), or ask for one GPU"
        )
    least_mib = _least_mib(downscale)
    fitting = [node for node in nodes if node.memory_mib is not None and node.memory_mib >= least_mib]
    unknown = [node for node in nodes if node.memory_mib is None]
    if not nodes:
        line = "no node with GPUs is to be seen that ranks can land on: the pods decide"
        return NodePlan(downscale=_chosen(downscale), gpus=0, explanation=(line,))
    if unknown and sum(node.gpus for node in fitting) < gpus:
        line = f"GPU memory of {_shown(unknown)} is unknown (no usable label): the pods decide"
        gpus_there, ranks = sum(node.gpus for node in nodes), sum(node.ranks for node in nodes)
        return NodePlan(
            downscale=_chosen(downscale), gpus=gpus_there, ranks=ranks, nodes=tuple(nodes), explanation=(line,)
        )
    if not fitting:
        advice = (
            "use other nodes, or set --downscale yourself" if downscale == "auto" else "choose a larger --downscale"
        )
        raise ConfigError(f"no GPU that ranks can land on has {least_mib} MiB: {_shown(nodes)}; {advice}")
    return _narrowed(nodes, fitting, gpus=gpus, downscale=downscale)


def _narrowed(nodes: Sequence[GpuNode], fitting: Sequence[GpuNode], *, gpus: int, downscale: str) -> NodePlan:
    smallest_mib = min(node.memory_mib or 0 for node in fitting)
    factor = _chosen(downscale) or downscale_for(smallest_mib)
    lines = [f"downscale factor {factor}: {_reason(fitting, smallest_mib, downscale)}"]
    left_out = [node for node in nodes if node not in fitting]
    if left_out:
        lines.append(f"ranks keep off {_shown(left_out)}")
    if downscale == "auto":
        lines += _better(fitting, gpus, factor)
    return NodePlan(
        downscale=factor,
        memory_values=tuple(sorted({str(node.label) for node in fitting})),
        nodes=tuple(fitting),
        gpus=sum(node.gpus for node in fitting),
        ranks=sum(node.ranks for node in fitting),
        explanation=tuple(lines),
    )


def _chosen(downscale: str) -> int | None:
    return None if downscale == "auto" else int(downscale)


def _least_mib(downscale: str) -> int:
    factor = max(DOWNSCALES) if downscale == "auto" else int(downscale)
    return next(least for least, d in DOWNSCALE_MIN_MIB if d == factor)


def _reason(fitting: Sequence[GpuNode], smallest_mib: int, downscale: str) -> str:
    if downscale != "auto":
        return f"as asked for; ranks go to {_shown(fitting)}"
    deciders = [node for node in fitting if node.memory_mib == smallest_mib]
    return f"the smallest GPU that ranks can land on has {smallest_mib} MiB: {_shown(deciders)}"


def _better(fitting: Sequence[GpuNode], gpus: int, factor: int) -> list[str]:
    """A hint where the larger GPUs alone would do."""
    for least_mib, smaller in DOWNSCALE_MIN_MIB:
        large = [node for node in fitting if (node.memory_mib or 0) >= least_mib]
        if smaller < factor and sum(node.gpus for node in large) >= gpus:
            return [f"with --downscale {smaller} it would keep to {_shown(large)}"]
    return []


def _shown(nodes: Sequence[GpuNode]) -> str:
    """``a (4 x 16384 MiB), b (...) and 3 more nodes``."""
    texts = [
        f"{node.name} ({node.gpus} x {node.memory_mib} MiB)" if node.memory_mib else f"{node.name} ({node.gpus} GPUs)"
        for node in nodes[:_SHOWN_NODES]
    ]
    more = len(nodes) - _SHOWN_NODES
    return ", ".join(texts) + (f" and {more} more node{'s' if more > 1 else ''}" if more > 0 else "")
