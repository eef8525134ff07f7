"""From a configuration to the input for Helm on a cluster, with all checks before that.

Problem: the values of a run depend on the nodes its pods can use, and those depend on the pods that the chart renders
with the user's own values.
Idea: render once, read the pod from the manifest, plan the nodes for it, render again with the plan.
Invariants: --dry-run, the checks and the installation use the same manifest; planning creates nothing; if nodes cannot
be listed, the pods decide.
"""

from __future__ import annotations

import logging
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from cli.backends.base import BackendOptions, Plan
from cli.backends.checks import Check
from cli.backends.cluster.pod_paths import refuse_relative_job_paths
from cli.backends.cluster.room import check_room, plan_for_nodes, pod_spec
from cli.backends.cluster.storage import (
    check_access,
    check_data,
    check_folders,
    check_store,
    refuse_file_of_this_machine,
    writable_folder,
)
from k8s import preflight as checks
from k8s.admission import check_objects, check_pods
from k8s.client import Cluster
from k8s.controllers import check_gang, check_job_api, served_gangs
from k8s.helm import Chart, Helm, objects_in, shipped_chart
from k8s.identity import cluster_identity
from k8s.job_apis import Api, api_of, served_apis
from k8s.names import ranks_per_pod
from k8s.node_plan import NodePlan
from k8s.permissions import check_permissions
from k8s.pod_options import PodOptions, with_pod_options
from k8s.references import check_credentials, check_priority, check_references
from k8s.values import config_for_pods, job_values, run_values, store_for_pods, with_dotted
from tsp.config.address import check_address, check_texts
from tsp.config.codec import set_dotted
from tsp.config.job import Job, StoreJob, given_paths, written_paths
from tsp.config.jobs import RunJob
from tsp.config.run import RunConfig
from tsp.config.sizing import effective_sizes
from tsp.config.strict_yaml import GivenTwiceError, UniqueKeysLoader
from tsp.errors import ClusterError, ConfigError
from tsp.run.status import Finding
from tsp.store.s3.aws_settings import with_aws_settings

if TYPE_CHECKING:
    from cli.options.settings import Settings
    from cli.stores import Stores

logger = logging.getLogger(__name__)


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

    def __init__(self, settings: Settings, stores: Stores, cluster: Cluster, helm: Helm) -> None:
        self._settings, self._stores, self._cluster, self._helm = settings, stores, cluster, helm

    def plan(self, config: RunConfig, options: BackendOptions) -> ClusterPlan:
        """Size the run for the nodes its pods can use, according to the pod that the chart renders."""
        # The nodes are looked up here: the chart's own lookup at installation could not be shown before.
        chart = self._chart(options)
        chart = replace(chart, assignments=(*chart.assignments, "lookupNodes=false"))
        draft = self._run_values(config, None, options)
        manifest = self._render(config.name, chart, draft)
        nodes = plan_for_nodes(self._cluster, config, objects_in(manifest))
        lines, effective = nodes.explanation, None
        if nodes.downscale is not None:
            # Fixed, so that the pods use it even if they get larger GPUs.
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
        """Chart and values of an auxiliary job, after checking that the objects its pods refer to exist."""
        refuse_relative_job_paths(job)
        chart = self._chart(options)
        job = _job_for_pods(job, self._settings.endpoint_url_in_cluster)
        own = job_values(job, shards=shards, image=options.image, queue=options.queue)
        values = with_dotted(own, self._settings.chart_values)
        objects = objects_in(self._render(name, chart, values))
        checks.refuse(checks.check_server(self._cluster))
        checks.refuse(_errors(check_permissions(self._cluster)))
        self._check_references(objects, values)
        pod = pod_spec(objects)
        for field, path in given_paths(job):
            if field.access == "read":
                refuse_file_of_this_machine(field.option, path, pod)
        for path in written_paths(job):
            checks.refuse(writable_folder("output", path, pod))
        if job.server is not None:
            checks.refuse(check_access(job.server, objects, pod))
        checks.refuse(check_objects(self._cluster, objects))
        checks.refuse(check_pods(self._cluster, objects))
        return chart, values

    def checks(self, plan: ClusterPlan) -> tuple[Check, ...]:
        """The checks of cluster, namespace, store and data, the cheap and fundamental ones first."""
        config, cluster, objects = plan.config, self._cluster, objects_in(plan.manifest)
        pod, api = pod_spec(objects), api_of(objects)
        apis = () if api is None else (api,)
        per_pod = max(map(ranks_per_pod, objects))
        checked_nodes = self._settings.check_nodes and not plan.values.get("queue")

        def refusing(find: Callable[[], Iterable[Finding]]) -> Callable[[], None]:
            return lambda: checks.refuse(find())

        return (
            Check("API server and namespace", refusing(lambda: checks.check_server(cluster))),
            Check("kind of job", refusing(lambda: check_job_api(cluster, api))),
            Check("permissions", refusing(lambda: _errors(check_permissions(cluster, apis)))),
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
                refusing(lambda: check_gang(cluster, str(plan.values.get("gang", "")), api or "pytorchjob")),
            ),
            Check("room", lambda: check_room(plan.nodes, config.gpus, per_pod) if checked_nodes else None),
            Check("admission", refusing(lambda: check_objects(cluster, objects))),
            Check("admission of pods", refusing(lambda: check_pods(cluster, objects))),
            Check("sidecars", refusing(lambda: checks.check_sidecars(cluster))),
            Check("folders", refusing(lambda: check_folders(config, pod))),
            Check("credentials", refusing(lambda: check_access(config.store, objects, pod))),
            Check("store", lambda: check_store(config, self._stores)),
            Check("data", lambda: check_data(config, self._stores)),
        )

    def _check_references(self, objects: Sequence[dict[str, Any]], values: dict[str, Any]) -> None:
        own = [item["metadata"]["name"] for item in objects]
        queue = str(values.get("queue") or "") or None
        pod, labels = pod_spec(objects), ChainMap(*(item["metadata"].get("labels") or {} for item in objects))
        checks.refuse(check_references(self._cluster, pod, own=own, queue=queue))
        checks.refuse(check_credentials(self._cluster, pod))
        checks.refuse(check_priority(self._cluster, pod, labels))

    def _render(self, name: str, chart: Chart, values: Mapping[str, Any]) -> str:
        """The manifest, after a check for secrets: anyone who may read the release can read all of it."""
        manifest = self._helm.render(name, chart, values)
        check_texts("chart", objects_in(manifest))
        return manifest

    def _chart(self, options: BackendOptions) -> Chart:
        check_address("--image", options.image)
        for assignment in options.chart_values:
            for text in re.split(r"(?<!\\),", assignment):
                key, _, value = text.partition("=")
                if not key.strip():
                    raise ConfigError(f"--chart-value {assignment!r} has no key: expected KEY=VALUE")
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
                f"--gpus {config.gpus} is not a multiple of --gpus-per-pod {per_pod}: every pod has the same "
                "number of GPUs"
            )
        if values.get("job", {}).get("api", "auto") == "auto" and self._served == ("trainjob",):
            set_dotted(values, "job.api", "trainjob")
        if self._may_be_ganged:
            # The same as the chart's own lookup at installation, so that the manifest shown before is equal.
            values.setdefault("masterFirst", False)
        return {"clusterName": self._identity, **values} if self._identity else values

    @cached_property
    def _identity(self) -> str:
        """An ID of the cluster; empty if it cannot be reached, as in a dry run."""
        try:
            return cluster_identity(self._cluster)
        except ClusterError as error:
            logger.debug("%s", error)
            return ""

    @cached_property
    def _may_be_ganged(self) -> bool:
        """Whether the cluster has a gang scheduler, which the training operator may use for every job."""
        try:
            return bool(served_gangs(self._cluster))
        except ClusterError as error:
            logger.debug("%s", error)
            return False

    @cached_property
    def _served(self) -> tuple[Api, ...]:
        """The kinds of training jobs that the cluster serves; none if it cannot be reached, as in a dry run."""
        try:
            return served_apis(self._cluster)
        except ClusterError as error:
            logger.debug("%s", error)
            return ()


def _errors(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Warnings about permissions are left to ``doctor``: a run works without them."""
    return (item for item in findings if item.level == "error")


def _values_in(path: str) -> Any:
    """The content of a values file; Helm reports errors in it, but reads only the first of several documents, and the
    last of equal keys.

    Raises: ConfigError.
    """
    try:
        text = Path(path).expanduser().read_bytes()
        first, *others = list(yaml.load_all(text, UniqueKeysLoader)) or [None]
        if any(others):
            raise ConfigError(
                f"--chart-values {path} has several YAML documents, of which Helm would read only the first"
            )
        return first
    except GivenTwiceError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"--chart-values {path}{line}: {error.problem}; Helm would read only the last") from error
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        logger.debug("%s: %s", path, error)
        return None


def _job_for_pods(job: Job, endpoint_url: str | None) -> Job:
    """The job with addresses as pods reach them."""
    if isinstance(job, StoreJob) and job.store is not None:
        return replace(job, store=store_for_pods(with_aws_settings(job.store), endpoint_url=endpoint_url))
    if isinstance(job, RunJob):
        config = replace(job.config, store=with_aws_settings(job.config.store))
        return replace(job, config=config_for_pods(config, endpoint_url=endpoint_url))
    return job
