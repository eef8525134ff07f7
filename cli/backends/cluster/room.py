"""The resources of a cluster's nodes for a run: GPU memory, CPUs for its data workers, and room for all its ranks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from k8s.answers import ForbiddenError
from k8s.client import Cluster
from k8s.gpus import other_gpus
from k8s.names import (
    GPU_RESOURCE_ANNOTATION,
    MEMORY_LABEL_ANNOTATION,
    main_container_of,
    pod_template_of,
    ranks_per_pod,
)
from k8s.node_plan import NodePlan, plan_nodes
from k8s.nodes import left_out, nodes_for, with_room
from k8s.quantity import parse_quantity
from tsp.config.cpus import auto_workers
from tsp.config.run import DataConfig, RunConfig
from tsp.config.throughput import forecast
from tsp.errors import ClusterError

logger = logging.getLogger(__name__)


def plan_for_nodes(cluster: Cluster, config: RunConfig, objects: Sequence[dict[str, Any]]) -> NodePlan:
    """Size a run for the nodes of a cluster.

    Args: objects, that the chart renders: whichever way a value was given, it is read there and nowhere else.
    """
    pod = pod_spec(objects)
    annotations = next((item for item in map(_annotations, objects) if GPU_RESOURCE_ANNOTATION in item), {})
    resource, label = annotations.get(GPU_RESOURCE_ANNOTATION), annotations.get(MEMORY_LABEL_ANNOTATION, "")
    per_pod = max((ranks_per_pod(item) for item in objects), default=1)
    chosen = None if config.downscale == "auto" else int(config.downscale)
    if resource is None:
        return NodePlan(downscale=chosen, explanation=("ranks run on the CPU: no GPU is requested",))
    try:
        items = list(cluster.items("/api/v1/nodes"))
        nodes = nodes_for(items, pod, gpu_resource=resource, memory_label=label, gpus_per_pod=per_pod)
    except ForbiddenError:
        return NodePlan(downscale=chosen, explanation=("no permission to list nodes: the pods decide",))
    except ClusterError as error:
        # Planning creates nothing, so it also serves a dry run without a cluster.
        logger.warning("%s", error)
        return NodePlan(downscale=chosen, explanation=("the nodes are not known: the pods decide",))
    nodes, lines = with_room(nodes, per_pod)
    plan = plan_nodes(nodes, gpus=config.gpus, downscale=config.downscale, precision=config.model.precision)
    data, shown = _planned_data(config.data, pod, per_pod)
    lines = tuple(lines or plan.explanation)
    if plan.ranks < config.gpus:
        lines += tuple(filter(None, [left_out(items, pod, gpu_resource=resource), other_gpus(items, resource)]))
    else:
        lines += shown
    return replace(plan, explanation=(*lines, *_forecast(config, data, plan)))


def _planned_data(data: DataConfig, pod: Mapping[str, Any], per_pod: int) -> tuple[DataConfig, tuple[str, ...]]:
    """The data path with the number of workers of a rank, and a line that shows the number if it was not set."""
    resources = main_container_of(pod).get("resources") or {}
    cpus = parse_quantity(str((resources.get("requests") or {}).get("cpu", "")))
    if data.workers is not None or cpus is None:
        return data, ()
    workers = auto_workers(math.ceil(cpus) // per_pod)
    asked_for = f"{cpus:g} CPUs requested for {per_pod} ranks" if per_pod > 1 else f"{cpus:g} CPUs requested"
    return replace(data, workers=workers), (f"data workers: {workers} per rank ({asked_for})",)


def _forecast(config: RunConfig, data: DataConfig, plan: NodePlan) -> tuple[str, ...]:
    """The clips per second of the data path and of a step on the slowest known GPU, if the data path is too slow."""
    found = [
        forecast(
            data,
            config.model.backbone,
            gpu_name=node.card.name,
            cpus=node.cpus or data.workers or 1,
        )
        for node in plan.nodes
        if node.card is not None
    ]
    known = [item for item in found if item is not None]
    slowest = min(known, key=lambda item: item.step, default=None)
    return (slowest.text,) if slowest is not None and slowest.is_short else ()


def check_room(nodes: NodePlan, gpus: int, per_pod: int = 1) -> None:
    """Refuse more ranks than can ever fit on the nodes; if nodes may not be listed, nothing is checked.

    Raises: ClusterError.
    """
    if nodes.gpus is None or nodes.ranks >= gpus:
        return
    why = "; ".join(nodes.explanation)
    advice = "if an autoscaler adds nodes, set check_nodes = false in tspctl.toml"
    if nodes.gpus < gpus:
        pods, other = (f" in pods of {per_pod}", ", choose another --gpus-per-pod") if per_pod > 1 else ("", "")
        raise ClusterError(
            f"--gpus {gpus}{pods}, but the nodes that ranks can use have {nodes.gpus} GPUs in total ({why}): "
            f"request fewer{other}, or change the node selection; {advice}"
        )
    by_gpus = sum(node.gpus // per_pod * per_pod for node in nodes.nodes)
    if by_gpus < gpus and nodes.nodes:
        raise ClusterError(
            f"--gpus {gpus} in pods of {per_pod} (--gpus-per-pod), but whole pods for only {by_gpus} ranks fit on "
            f"the nodes ({why}): choose another number of GPUs per pod, or request fewer; {advice}"
        )
    raise ClusterError(
        f"--gpus {gpus}, but CPU and memory of the nodes suffice for {nodes.ranks} ranks at a time ({why}): lower "
        f"resources.requests, or request fewer; {advice}"
    )


def pod_spec(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Spec of the pods of a release: the master's, a runtime's, or a job's."""
    for item in objects:
        if item["kind"] in ("PyTorchJob", "TrainingRuntime", "Job"):
            return dict(pod_template_of(item)["spec"])
    advice = "is 'chart' in tspctl.toml the right one?"
    raise ClusterError(f"the chart renders neither a PyTorchJob, a TrainJob nor a Job: {advice}")


def _annotations(item: dict[str, Any]) -> dict[str, str]:
    return item["metadata"].get("annotations") or {}
