"""From a configuration to what Helm is given on a cluster, and all checks before that.

Problem: what a run needs depends on the nodes its pods can land on, and that depends on the pods as the chart renders
them with the user's own values. Idea: render once, read the pod from the manifest, plan the nodes for it, render again
with the plan. Invariants: what is shown by --dry-run, checked and installed is the same manifest; planning creates
nothing; a node list that cannot be read leaves the decision to the pods.
"""

from __future__ import annotations

import logging
import math
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from cli.backends.base import BackendOptions, Check, Plan
from cli.backends.cluster.pod_paths import refuse_relative_job_paths
from cli.backends.cluster.storage import (
    check_access,
    check_data,
    check_folders,
    check_store,
    refuse_file_of_this_machine,
    writable_folder,
)
from k8s import preflight as checks
from k8s.answers import ForbiddenError
from k8s.client import Cluster
from k8s.helm import Chart, Helm, objects_in, shipped_chart
from k8s.identity import cluster_identity
from k8s.job_apis import Api, api_of, served_apis
from k8s.names import (
    GPU_RESOURCE_ANNOTATION,
    MEMORY_LABEL_ANNOTATION,
    main_container_of,
    pod_template_of,
    ranks_per_pod,
)
from k8s.node_plan import NodePlan, plan_nodes
from k8s.nodes import left_out, nodes_for, with_room
from k8s.pod_options import PodOptions, with_pod_options
from k8s.quantity import parse_quantity
from k8s.references import check_priority, check_references
from k8s.values import config_for_pods, job_values, run_values, store_for_pods, with_dotted
from tsp.config.address import check_address, check_texts
from tsp.config.codec import set_dotted
from tsp.config.cpus import auto_workers
from tsp.config.job import Job, given_paths, written_paths
from tsp.config.run import DataConfig, RunConfig, StoreConfig
from tsp.config.sizing import effective_sizes
from tsp.config.throughput import DEFAULT_HEIGHT_PX, HEIGHT_PX, forecast
from tsp.errors import ClusterError, ConfigError
from tsp.run.status import Finding
from tsp.store.s3.aws_settings import with_aws_settings

if TYPE_CHECKING:
    from cli.options.settings import Settings

logger = logging.getLogger(__name__)

GPU_RESOURCE = "nvidia.com/gpu"
GPU_MEMORY_LABEL = "nvidia.com/gpu.memory"


@dataclass(frozen=True, kw_only=True)
class ClusterPlan(Plan):
    """A plan with what Helm is given."""

    chart: Chart
    values: dict[str, Any]
    manifest: str
    """What Helm sends for these values."""
    nodes: NodePlan


class Planner:
    """Plans for one namespace."""

    def __init__(self, settings: Settings, cluster: Cluster, helm: Helm) -> None:
        self._settings, self._cluster, self._helm = settings, cluster, helm

    def plan(self, config: RunConfig, options: BackendOptions) -> ClusterPlan:
        """Size the run for the nodes its pods can land on; the pod that the chart renders says which those are."""
        # The nodes are looked up here: what the chart finds when it is installed could not be shown before.
        chart = self._chart(options)
        chart = replace(chart, assignments=(*chart.assignments, "lookupNodes=false"))
        draft = self._run_values(config, None, options)
        manifest = self._render(config.name, chart, draft)
        nodes = self._plan_nodes(config, objects_in(manifest))
        lines, effective = nodes.explanation, None
        if nodes.downscale is not None:
            # Fixed, so that the pods keep to it even where they happen to get larger cards.
            config = replace(config, downscale=cast("Any", str(nodes.downscale)))
            effective = effective_sizes(config, downscale=nodes.downscale)
            lines += (str(effective),)
        values = self._run_values(config, nodes, options)
        return ClusterPlan(
            config=config,
            options=options,
            effective=effective,
            explanation=lines,
            chart=chart,
            values=values,
            manifest=manifest if values == draft else self._render(config.name, chart, values),
            nodes=nodes,
        )

    def plan_job(self, name: str, job: Job, options: BackendOptions, *, shards: int) -> tuple[Chart, dict[str, Any]]:
        """Chart and values of an auxiliary job, once what its pods refer to is known to exist."""
        refuse_relative_job_paths(job)
        chart = self._chart(options)
        job = _job_for_pods(job, self._settings.endpoint_url_in_cluster)
        own = job_values(job, shards=shards, image=options.image, queue=options.queue)
        values = with_dotted(own, self._settings.chart_values)
        objects = objects_in(self._render(name, chart, values))
        checks.refuse(checks.check_server(self._cluster))
        checks.refuse(_errors(checks.check_permissions(self._cluster)))
        self._check_references(objects, values)
        pod = pod_spec(objects)
        for field, path in given_paths(job):
            if field.access == "read":
                refuse_file_of_this_machine(field.option, path, pod)
        for path in written_paths(job):
            checks.refuse(writable_folder("output", path, pod))
        store = getattr(job, "store", None) or getattr(getattr(job, "config", None), "store", None)
        if store is not None:
            checks.refuse(check_access(store, objects, pod))
        checks.refuse(checks.check_objects(self._cluster, objects))
        return chart, values

    def checks(self, plan: ClusterPlan) -> tuple[Check, ...]:
        """What is asked of cluster, namespace, store and data, the cheap and the fundamental first."""
        config, cluster, objects = plan.config, self._cluster, objects_in(plan.manifest)
        pod, api = pod_spec(objects), api_of(objects)
        apis = () if api is None else (api,)
        per_pod = max(map(ranks_per_pod, objects))
        checked_nodes = self._settings.check_nodes and not plan.values.get("queue")

        def refusing(find: Callable[[], Iterable[Finding]]) -> Callable[[], None]:
            return lambda: checks.refuse(find())

        return (
            Check("API server and namespace", refusing(lambda: checks.check_server(cluster))),
            Check("kind of job", refusing(lambda: checks.check_job_api(cluster, api))),
            Check("permissions", refusing(lambda: _errors(checks.check_permissions(cluster, apis)))),
            Check("Secrets, claims and queue", lambda: self._check_references(objects, plan.values)),
            Check(
                "security standard",
                refusing(
                    lambda: checks.check_security_standard(
                        cluster, workers=api == "pytorchjob" and config.gpus > per_pod
                    )
                ),
            ),
            Check(
                "gang scheduling",
                refusing(lambda: checks.check_gang(cluster, str(plan.values.get("gang", "")), api or "pytorchjob")),
            ),
            Check("room", lambda: check_room(plan.nodes, config.gpus, per_pod) if checked_nodes else None),
            Check("admission", refusing(lambda: checks.check_objects(cluster, objects))),
            Check("sidecars", refusing(lambda: checks.check_sidecars(cluster))),
            Check("folders", refusing(lambda: check_folders(config, pod))),
            Check("credentials", refusing(lambda: check_access(config.store, objects, pod))),
            Check("store", lambda: check_store(config)),
            Check("data", lambda: check_data(config)),
        )

    def _check_references(self, objects: Sequence[dict[str, Any]], values: dict[str, Any]) -> None:
        own = [item["metadata"]["name"] for item in objects]
        queue = str(values.get("queue") or "") or None
        pod, labels = pod_spec(objects), ChainMap(*(item["metadata"].get("labels") or {} for item in objects))
        checks.refuse(check_references(self._cluster, pod, own=own, queue=queue))
        checks.refuse(check_priority(self._cluster, pod, labels))

    def _render(self, name: str, chart: Chart, values: Mapping[str, Any]) -> str:
        """The manifest, once nothing in it could be a secret: whoever may read the release reads all of it."""
        manifest = self._helm.render(name, chart, values)
        check_texts("chart", objects_in(manifest))
        return manifest

    def _chart(self, options: BackendOptions) -> Chart:
        check_address("--image", options.image)
        for assignment in options.chart_values:
            for text in re.split(r"(?<!\\),", assignment):
                key, _, value = text.partition("=")
                check_address(f"--chart-value {key}", value)
        for path in options.chart_value_files:
            check_texts(f"--chart-values {path}", _values_in(path))
        return Chart(
            reference=self._settings.chart or shipped_chart(),
            value_files=options.chart_value_files,
            assignments=options.chart_values,
        )

    def _run_values(self, config: RunConfig, nodes: NodePlan | None, options: BackendOptions) -> dict[str, Any]:
        config = replace(config, store=with_aws_settings(config.store))
        for_pods = config_for_pods(config, endpoint_url=self._settings.endpoint_url_in_cluster)
        values = run_values(for_pods, nodes, image=options.image, queue=options.queue)
        values = with_dotted(values, self._settings.chart_values)
        values = with_pod_options(values, PodOptions(**options.pods), assignments=options.chart_values)
        per_pod = values.get("gpusPerPod", 1)
        if isinstance(per_pod, int) and per_pod > 0 and config.gpus % per_pod:
            raise ConfigError(
                f"--gpus-per-pod {per_pod} does not divide --gpus {config.gpus}: every pod has the same number of GPUs"
            )
        if values.get("job", {}).get("api", "auto") == "auto" and self._served == ("trainjob",):
            set_dotted(values, "job.api", "trainjob")
        if self._may_be_ganged:
            # As the chart itself finds it where it is installed, which what is shown before must equal.
            values.setdefault("masterFirst", False)
        return {"clusterName": self._identity, **values} if self._identity else values

    @cached_property
    def _identity(self) -> str:
        """What tells the cluster from others; empty where it cannot be asked, as for a dry run."""
        try:
            return cluster_identity(self._cluster)
        except ClusterError as error:
            logger.debug("%s", error)
            return ""

    @cached_property
    def _may_be_ganged(self) -> bool:
        """Whether the cluster has a gang scheduler, which the training operator may use for every job."""
        try:
            return bool(checks.served_gangs(self._cluster))
        except ClusterError as error:
            logger.debug("%s", error)
            return False

    @cached_property
    def _served(self) -> tuple[Api, ...]:
        """What training can be submitted as; nothing where the cluster cannot be asked, as for a dry run."""
        try:
            return served_apis(self._cluster)
        except ClusterError as error:
            logger.debug("%s", error)
            return ()

    def _plan_nodes(self, config: RunConfig, objects: Sequence[dict[str, Any]]) -> NodePlan:
        """From what the chart renders: whichever way a value was given, it is read there and nowhere else."""
        pod = pod_spec(objects)
        annotations = next((item for item in map(_annotations, objects) if GPU_RESOURCE_ANNOTATION in item), {})
        resource, label = annotations.get(GPU_RESOURCE_ANNOTATION), annotations.get(MEMORY_LABEL_ANNOTATION, "")
        per_pod = max((ranks_per_pod(item) for item in objects), default=1)
        chosen = None if config.downscale == "auto" else int(config.downscale)
        if resource is None:
            return NodePlan(downscale=chosen, explanation=("ranks run on the CPU: no GPU is asked for",))
        try:
            items = list(self._cluster.items("/api/v1/nodes"))
            nodes = nodes_for(items, pod, gpu_resource=resource, memory_label=label, gpus_per_pod=per_pod)
        except ForbiddenError:
            return NodePlan(downscale=chosen, explanation=("nodes may not be listed here: the pods decide",))
        except ClusterError as error:
            # Planning creates nothing, so it also serves a dry run without a cluster.
            logger.warning("%s", error)
            return NodePlan(downscale=chosen, explanation=("the nodes are not known: the pods decide",))
        nodes, lines = with_room(nodes, per_pod)
        plan = plan_nodes(nodes, gpus=config.gpus, downscale=config.downscale, precision=config.model.precision)
        data, shown = _planned_data(config.data, pod, per_pod)
        lines = tuple(lines or plan.explanation)
        if plan.ranks < config.gpus:
            lines += tuple(filter(None, [left_out(items, pod, gpu_resource=resource)]))
        else:
            lines += shown
        return replace(plan, explanation=(*lines, *_forecast(config, data, plan)))


def _planned_data(data: DataConfig, pod: Mapping[str, Any], per_pod: int) -> tuple[DataConfig, tuple[str, ...]]:
    """The data path with the workers that a rank will have, and a line that says so where nobody has chosen them."""
    resources = main_container_of(pod).get("resources") or {}
    cpus = parse_quantity(str((resources.get("requests") or {}).get("cpu", "")))
    if data.workers is not None or cpus is None:
        return data, ()
    workers = auto_workers(math.ceil(cpus) // per_pod)
    asked_for = f"{cpus:g} CPUs requested for {per_pod} ranks" if per_pod > 1 else f"{cpus:g} CPUs requested"
    return replace(data, workers=workers), (f"data workers: {workers} a rank ({asked_for})",)


def _forecast(config: RunConfig, data: DataConfig, plan: NodePlan) -> tuple[str, ...]:
    """What the data path gives and a step takes on the slowest card that is known, if the former is too little."""
    found = [
        forecast(
            data,
            config.model.backbone,
            gpu_name=node.card.name,
            cpus=node.cpus or data.workers or 1,
            height_px=HEIGHT_PX.get(config.data.name, DEFAULT_HEIGHT_PX),
        )
        for node in plan.nodes
        if node.card is not None
    ]
    known = [item for item in found if item is not None]
    slowest = min(known, key=lambda item: item.step, default=None)
    return (slowest.text,) if slowest is not None and slowest.is_short else ()


def _errors(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Warnings about rights are ``doctor``'s: a run does without."""
    return (item for item in findings if item.level == "error")


def check_room(nodes: NodePlan, gpus: int, per_pod: int = 1) -> None:
    """Refuse more ranks than the nodes could ever hold; nodes that may not be listed are accepted unchecked.

    Raises: ClusterError.
    """
    if nodes.gpus is None or nodes.ranks >= gpus:
        return
    why = "; ".join(nodes.explanation)
    advice = "if an autoscaler adds nodes, set check_nodes = false in tspctl.toml"
    if nodes.gpus < gpus:
        pods, other = (f" in pods of {per_pod}", ", choose another --gpus-per-pod") if per_pod > 1 else ("", "")
        raise ClusterError(
            f"--gpus {gpus}{pods}, but the nodes that ranks can land on have {nodes.gpus} GPUs in all ({why}): "
            f"ask for fewer{other}, or change the node selection; {advice}"
        )
    by_gpus = sum(node.gpus // per_pod * per_pod for node in nodes.nodes)
    if by_gpus < gpus and nodes.nodes:
        raise ClusterError(
            f"--gpus {gpus} in pods of {per_pod} (--gpus-per-pod), but the nodes hold {by_gpus} ranks in whole pods "
            f"({why}): choose another number of GPUs a pod, or ask for fewer; {advice}"
        )
    raise ClusterError(
        f"--gpus {gpus}, but CPU and memory of the nodes are enough for {nodes.ranks} ranks at a time ({why}): "
        f"lower resources.requests, or ask for fewer; {advice}"
    )


def _annotations(item: dict[str, Any]) -> dict[str, str]:
    return item["metadata"].get("annotations") or {}


def _values_in(path: str) -> Any:
    """What a values file holds; what is wrong with it Helm says better."""
    try:
        return yaml.safe_load(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        logger.debug("%s: %s", path, error)
        return None


def pod_spec(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Spec of the pods of a release: the master's, a runtime's, or a job's."""
    for item in objects:
        if item["kind"] in ("PyTorchJob", "TrainingRuntime", "Job"):
            return dict(pod_template_of(item)["spec"])
    advice = "is 'chart' in tspctl.toml the right one?"
    raise ClusterError(f"the chart renders neither a PyTorchJob, a TrainJob nor a Job: {advice}")


def _job_for_pods(job: Job, endpoint_url: str | None) -> Job:
    """The job with addresses as pods reach them."""
    changes: dict[str, Any] = {}
    store = getattr(job, "store", None)
    if isinstance(store, StoreConfig):
        changes["store"] = store_for_pods(with_aws_settings(store), endpoint_url=endpoint_url)
    config = getattr(job, "config", None)
    if isinstance(config, RunConfig):
        config = replace(config, store=with_aws_settings(config.store))
        changes["config"] = config_for_pods(config, endpoint_url=endpoint_url)
    return replace(job, **changes) if changes else job
