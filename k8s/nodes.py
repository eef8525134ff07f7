"""The nodes with GPUs that ranks can use, and how many ranks fit. Pure.

The scheduler's rules are applied to the pod that the chart renders, so users' changes in the chart's values are
considered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from k8s.gpus import label_prefix
from k8s.names import Object
from k8s.quantity import allocatable, parse_quantity
from k8s.scheduling import can_land, why_not
from tsp.config.cards import Card, explain_precision, precision_for
from tsp.config.run import Precision
from tsp.config.sizing import gpu_memory_mib
from tsp.errors import ConfigError
from tsp.wording import first_and_more

_MAX_LEFT_OUT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuNode:
    """A node that ranks can use."""

    name: str
    gpus: int
    """Allocatable; whether they are free now is the scheduler's business."""
    ranks: int
    """Ranks of the run that fit on it when it is empty, in whole pods: GPUs, CPU and memory."""
    label: str | None
    """Its memory label, as written."""
    memory_mib: int | None
    """A rank's part of the label, normalised to MiB; None where there is none, or none that is a size."""
    slots: int = 1
    """Ranks that share one card in time, and its memory; more than one: time-slicing."""
    cpus: float = 0.0
    """Allocatable cores for each of its GPUs; 0 if unknown."""
    card: Card | None = None
    """The GPU according to the node's labels; None if there are none."""


def nodes_for(
    nodes: Iterable[Object], pod: Object, *, gpu_resource: str, memory_label: str, gpus_per_pod: int = 1
) -> list[GpuNode]:
    """The nodes with GPUs that a pod can use, by name; on nodes with fewer GPUs than the pod's, no rank fits.

    Args: pod, the spec of its template; gpus_per_pod, its GPUs, a rank for each.
    """
    found = []
    for node in nodes:
        gpus = allocatable(node, gpu_resource)
        if gpus < 1 or not can_land(node, pod):
            continue
        labels = node["metadata"].get("labels") or {}
        label, slots = labels.get(memory_label), _slots(labels, gpu_resource)
        memory_mib = _memory_mib(label)
        found.append(
            GpuNode(
                name=str(node["metadata"]["name"]),
                gpus=gpus,
                ranks=min([gpus // gpus_per_pod, *_rooms(node, pod)]) * gpus_per_pod,
                label=label,
                memory_mib=None if memory_mib is None else memory_mib // slots,
                slots=slots,
                cpus=(parse_quantity((node.get("status") or {}).get("allocatable", {}).get("cpu", "")) or 0.0) / gpus,
                card=_card(labels, memory_mib),
            )
        )
    return sorted(found, key=lambda item: item.name)


def left_out(nodes: Iterable[Object], pod: Object, *, gpu_resource: str) -> str | None:
    """The nodes with GPUs that a pod cannot use, and why, the first few by name; None if there are none."""
    found = [
        f"{node['metadata']['name']} {reason}"
        for node in sorted(nodes, key=lambda item: str(item["metadata"]["name"]))
        if allocatable(node, gpu_resource) and (reason := why_not(node, pod)) is not None
    ]
    return f"left out: {first_and_more(found, _MAX_LEFT_OUT)}" if found else None


def _slots(labels: Mapping[str, str], gpu_resource: str) -> int:
    """The number of time slices of each GPU of a node, or of each part of one, from the device plugin's labels."""
    labelled = label_prefix(gpu_resource)
    replicas = str(labels.get(f"{labelled}.replicas") or "1")
    shared = str(labels.get(f"{labelled}.product") or "").endswith("-SHARED")
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
    return [], (f"no node has the {gpus_per_pod} GPUs of a pod; {largest.name} has the most, {largest.gpus}",)


def nodes_with(precision: Precision, nodes: Sequence[GpuNode]) -> list[GpuNode]:
    """The nodes whose GPUs support the requested number format, and nodes without labels.

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
    """The number format that ranks on any of these nodes will share, in one line; empty if no label names the cards."""
    cards = [node.card for node in nodes if node.card is not None and node.card.compute is not None]
    return (explain_precision(precision, cards),) if cards else ()


def _rooms(node: Object, pod: Object) -> Iterator[int]:
    """The numbers of pods for which a node's CPU and memory suffice; invalid quantities do not limit it."""
    allocatable = (node.get("status") or {}).get("allocatable", {})
    for key in ("cpu", "memory"):
        requests = [
            (item.get("resources") or {}).get("requests", {}).get(key, 0) for item in pod.get("containers") or []
        ]
        wanted, there = sum(parse_quantity(item) or 0.0 for item in requests), parse_quantity(allocatable.get(key, ""))
        if wanted > 0 and there is not None:
            yield int(there // wanted)


def _memory_mib(label: str | None) -> int | None:
    try:
        return None if label is None else gpu_memory_mib(label)
    except ConfigError:
        return None
