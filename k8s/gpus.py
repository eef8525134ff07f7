"""GPUs of a cluster by node: their kind, and the pods that use them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from k8s.names import RUN_LABEL, Object, is_of_run
from k8s.quantity import allocatable, pieces

_ENDED = ("Succeeded", "Failed")
_VENDOR = "nvidia.com/"
_OTHER_VENDORS = ("amd.com/gpu", "gpu.intel.com/", "habana.ai/", "google.com/tpu", "huawei.com/Ascend")
"""Of accelerators that Kubernetes' device plugins name so."""
_OWN_TAINTS = "node.kubernetes.io/"
_DRIVER = "nvidia.com/cuda.driver-version.full"
_DRIVER_PARTS = tuple(f"nvidia.com/cuda.driver.{part}" for part in ("major", "minor", "rev"))


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeGpus:
    """The GPUs of one kind on one node."""

    node: str
    resource: str
    """As pods ask for them."""
    kind: str | None
    memory: str | None
    """The node's label, as written."""
    driver: str | None
    total: int
    """Allocatable."""
    holders: Mapping[str, int]
    """Run, or ``namespace/pod`` of others -> GPUs, of the pods that can be seen."""
    is_open: bool
    """Whether new pods may run on it."""

    @property
    def free(self) -> int:
        """GPUs that no visible pod uses; 0 on a node that accepts no new pods."""
        return max(0, self.total - sum(self.holders.values())) if self.is_open else 0


def node_gpus(nodes: Iterable[Object], pods: Sequence[Object], *, namespace: str) -> list[NodeGpus]:
    """Every node with GPUs, by name, and the GPUs that pods use.

    Args: pods, those that can be seen; namespace, the one whose runs are called by their names alone.
    """
    found = []
    on_node: dict[str, list[Object]] = {}
    for pod in pods:
        on_node.setdefault(str(pod["spec"].get("nodeName")), []).append(pod)
    for node in nodes:
        name, labels = str(node["metadata"]["name"]), node["metadata"].get("labels") or {}
        for resource in (node.get("status") or {}).get("allocatable") or {}:
            total = allocatable(node, resource)
            if not is_gpu(resource) or total < 1:
                continue
            labelled = label_prefix(resource)
            found.append(
                NodeGpus(
                    node=name,
                    resource=resource,
                    kind=labels.get(f"{labelled}.product") or labels.get("nvidia.com/gpu.product"),
                    memory=labels.get(f"{labelled}.memory"),
                    driver=_driver(labels),
                    total=total,
                    holders=_holders(on_node.get(name, []), resource, namespace),
                    is_open=_is_open(node),
                )
            )
    return sorted(found, key=lambda item: (item.node, item.resource))


def is_gpu(resource: str) -> bool:
    """Whether a node's resource is a GPU or a part of one: ``nvidia.com/gpu``, ``nvidia.com/mig-1g.5gb``."""
    domain, _, what = resource.partition("/")
    return "." in domain and (what == "gpu" or what.startswith(("mig-", "gpu.")))


def other_gpus(nodes: Iterable[Object], gpu_resource: str) -> str | None:
    """The GPUs of nodes that have another resource name than pods ask for: parts of one, or another vendor's; None if
    there are none.
    """
    found = {
        resource
        for node in nodes
        for resource in (node.get("status") or {}).get("allocatable") or {}
        if resource != gpu_resource
        and (is_gpu(resource) or resource.startswith(_OTHER_VENDORS))
        and allocatable(node, resource)
    }
    foreign = sorted(resource for resource in found if not resource.startswith(_VENDOR))
    ours = sorted(found.difference(foreign))
    texts = [f"nodes have {', '.join(ours)}: to use one, set gpuResource (chart value)"] if ours else []
    texts += [f"nodes have {', '.join(foreign)}, on which CUDA does not run"] if foreign else []
    return "; ".join(texts) or None


def label_prefix(resource: str) -> str:
    """How the labels of a GPU resource begin: time-sliced ones may be renamed (``nvidia.com/gpu.shared``), and keep
    the labels of the whole."""
    return resource.removesuffix(".shared")


def _driver(labels: Mapping[str, str]) -> str | None:
    if _DRIVER in labels:
        return labels[_DRIVER]
    parts = [labels[key] for key in _DRIVER_PARTS if key in labels]
    return ".".join(parts) or None


def _is_open(node: Object) -> bool:
    """Not cordoned, and without a taint of Kubernetes itself: not ready, unreachable, short of memory or disk."""
    spec = node.get("spec") or {}
    taints = [item for item in spec.get("taints") or [] if item.get("effect") != "PreferNoSchedule"]
    return not (spec.get("unschedulable") or any(str(item["key"]).startswith(_OWN_TAINTS) for item in taints))


def _holders(pods: Sequence[Object], resource: str, namespace: str) -> dict[str, int]:
    held: dict[str, int] = {}
    for pod in pods:
        if (pod.get("status") or {}).get("phase") in _ENDED:
            continue
        count = sum(_asked(container, resource) for container in pod["spec"].get("containers") or [])
        if count:
            who = _name_of(pod, namespace)
            held[who] = held.get(who, 0) + count
    return held


def _asked(container: Object, resource: str) -> int:
    return pieces(((container.get("resources") or {}).get("limits") or {}).get(resource, 0))


def _name_of(pod: Object, namespace: str) -> str:
    """The run of a pod of ours, else the pod."""
    metadata = pod["metadata"]
    run = (metadata.get("labels") or {}).get(RUN_LABEL, "")
    name = str(run if run and is_of_run(pod, run) else metadata["name"])
    own = metadata.get("namespace", namespace) == namespace
    return name if own else f"{metadata['namespace']}/{name}"
