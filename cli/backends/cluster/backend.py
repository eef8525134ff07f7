"""Runs on a Kubernetes cluster: one Helm release per run, read back through the API."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cli.backends.base import BackendOptions, GpuStatus, JobEnd, LogLine, LogQuery, Plan
from cli.backends.checks import Check
from cli.backends.cluster.diagnosis import diagnose
from cli.backends.cluster.lifecycle import Lifecycle, install
from cli.backends.cluster.plan import ClusterPlan, Planner
from cli.backends.cluster.pod_paths import refuse_paths_of_this_machine
from cli.backends.cluster.status import WaitReasonLogger, log_line, release_status, run_status, trainer_of
from cli.backends.run_status import RunStatus, absent_ranks
from cli.options.store import store_config
from k8s import preflight as checks
from k8s.admission import check_objects
from k8s.answers import ForbiddenError
from k8s.client import Cluster, ClusterAddress
from k8s.gpus import node_gpus
from k8s.helm import Helm, chart_facts, objects_in, shipped_chart
from k8s.identity import cluster_identity
from k8s.names import kind_of, main_container_of, pods_of
from k8s.pod_log import Wanted
from k8s.releases import Releases
from k8s.run_list import RunView
from k8s.run_logs import follow_logs, read_logs
from k8s.runs import RunLogs, Runs
from k8s.shell import run_in_pod
from k8s.status import pod_status, state_of
from tsp.config.job import Job
from tsp.config.run import RunConfig
from tsp.config.run_name import check_run_name
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, NoSuchRunError
from tsp.run.ownership import owner_of_namespace, refuse_anothers, take
from tsp.run.status import ENDED, Finding

if TYPE_CHECKING:
    from cli.options.settings import Settings
    from cli.stores import Stores

logger = logging.getLogger(__name__)


class ClusterBackend:
    """A namespace of a cluster that runs are submitted to."""

    name = "kubernetes"
    lists_stored_runs = False
    sees_paths = False

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        where = ClusterAddress(context=settings.context, kubeconfig=settings.kubeconfig, namespace=settings.namespace)
        self._cluster = Cluster(where)
        self._runs = Runs(self._cluster)

    @cached_property
    def _helm(self) -> Helm:
        where = replace(self._cluster.where, context=self._cluster.context)
        return Helm(where, self._cluster.namespace, token=self._cluster.plugin_token)

    @cached_property
    def _releases(self) -> Releases:
        return Releases(self._cluster)

    @cached_property
    def _lifecycle(self) -> Lifecycle:
        return Lifecycle(self._settings, self._stores, self._runs, self._releases, lambda: self._helm)

    @cached_property
    def _planner(self) -> Planner:
        return Planner(self._settings, self._stores, self._cluster, self._helm)

    # Starting

    def with_paths(self, config: RunConfig, dataset: str | None) -> RunConfig:
        """Unchanged, after a check that nothing in it exists only on this machine."""
        refuse_paths_of_this_machine(config, dataset)
        return config

    def plan(self, config: RunConfig, options: BackendOptions) -> ClusterPlan:
        """Size the run for the nodes its pods can use."""
        return self._planner.plan(config, options)

    def checks(self, plan: Plan) -> Sequence[Check]:
        """A second run of a name, and whatever cluster, store or data would make fail."""
        assert isinstance(plan, ClusterPlan)
        return (Check("name", lambda: self._refuse_second(plan.config.name)), *self._planner.checks(plan))

    def _refuse_second(self, name: str) -> None:
        if self._runs.find(name) is not None:
            raise ConfigError(self._releases.has_run(name))
        if taken := self._releases.why_taken(name):
            raise ConfigError(taken)

    def render(self, plan: Plan, *, on_server: bool = False) -> str:
        """The release's manifest."""
        assert isinstance(plan, ClusterPlan)
        if on_server:
            checks.refuse(check_objects(self._cluster, objects_in(plan.manifest)))
        return plan.manifest

    def submit(self, plan: Plan) -> None:
        """Install the release."""
        assert isinstance(plan, ClusterPlan)
        install(self._releases, self._helm, plan.config.name, plan.chart, plan.values, manifest=plan.manifest)

    def run_job(self, name: str, job: Job, options: BackendOptions, *, gpus: int) -> JobEnd | None:
        """As an Indexed Job in the background; ``gpus`` pods share the work."""
        check_run_name(name)
        self._refuse_second(name)
        chart, values = self._planner.plan_job(name, job, options, shards=max(1, gpus))
        self._releases.install(self._helm, name, chart, values)
        return None

    # Looking

    def names(self) -> Iterator[str]:
        """Every run of the namespace."""
        return self._runs.names()

    def holds(self, name: str) -> bool:
        """Whether the namespace has a job or a release of that name."""
        return self._runs.find(name) is not None or self._releases.find(name) is not None

    def refuse_ignored(self, given: Mapping[str, Any]) -> None:
        """Nothing: all that can be given means something to a cluster."""

    def store_from_here(self, recorded: StoreConfig) -> StoreConfig:
        """With the endpoint of the settings: pods may reach the server at another address."""
        return store_config(self._settings, recorded.uri) if "://" in recorded.uri else recorded

    def with_job_paths(self, values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        """Unchanged: pods' paths are not this machine's."""
        return values

    def gpus(self) -> Iterator[GpuStatus]:
        """By node, as far as its user may see nodes and pods."""
        nodes = list(self._cluster.items("/api/v1/nodes"))
        try:
            pods = list(self._cluster.items("/api/v1/pods"))
        except ForbiddenError as error:
            logger.debug("%s", error)
            logger.warning("no permission to list pods of other namespaces: their GPUs count as free")
            pods = list(self._cluster.items(self._cluster.namespaced("v1", "pods")))
        for item in node_gpus(nodes, pods, namespace=self._cluster.namespace):
            memory = f"{item.memory} MiB" if item.memory and item.memory.isdigit() else item.memory
            yield GpuStatus(
                node=item.node,
                gpu=item.kind or item.resource,
                memory=memory,
                driver=item.driver,
                total=item.total,
                free=item.free,
                held_by=item.holders,
            )

    def list_runs(self) -> Iterator[RunStatus]:
        """Every run of the namespace, newest first; installations without a job behind them."""
        known = []
        for view in self._runs.views():
            known.append(str(view.job["metadata"]["name"]))
            yield run_status(view)
        yield from map(release_status, self._releases.without_job(known))

    def status(self, name: str) -> RunStatus | None:
        """One run with its pods, or the remains of one."""
        view = self._runs.view(name)
        if view is not None:
            return run_status(view, pods_of=self._runs)
        release = self._releases.find_own(name)
        return None if release is None else release_status(release, pods=len(self._runs.pods(name)))

    def logs(self, name: str, query: LogQuery) -> Iterator[LogLine] | None:
        """The output of the newest attempt's pods; earlier attempts are only in the store."""
        job = self._runs.find(name)
        if job is None:
            return None
        if kind_of(job) == "train" and (query.previous or query.attempt is not None):
            return None
        api = RunLogs(self._runs, name)
        pods, state = api.pods(), state_of(job)
        nothing_comes = not query.follow or state in ENDED or state == "suspended"
        if kind_of(job) == "train":
            # Workers still running when the master ended are deleted; the store then has more than the remaining pods.
            if nothing_comes and (not pods or (state == "succeeded" and len(pods) < pods_of(job))):
                return None
        elif not pods and nothing_comes:
            logger.warning("%s is %s and its pods are gone, and their logs with them", name, state)
            return iter(())
        wanted = Wanted(ranks=query.ranks, tail=query.tail, since=query.since)
        if not query.follow:
            return map(log_line, read_logs(api, wanted))
        return map(log_line, follow_logs(api, wanted, on_silence=WaitReasonLogger(self._runs, name)))

    # Changing

    def cancel(self, name: str, *, grace_sec: float | None) -> None:
        """Take the pods away with time to save, and write the outcome down."""
        self._lifecycle.stop(name, "cancelled", grace_sec)

    def suspend(self, name: str, *, grace_sec: float | None) -> None:
        """As cancel; ``resume`` recreates the pods."""
        self._lifecycle.stop(name, "suspended", grace_sec)

    def resume(self, name: str, config: RunConfig | None, *, force: bool = False) -> None:
        """Bring back the pods of a stopped run; reinstall a release whose job has failed or is gone."""
        if config is not None:
            view = self._runs.view(name)
            owner = (trainer_of(view.job) if view else None) or owner_of_namespace(
                self._cluster.namespace, cluster_identity(self._cluster)
            )
            run = self._lifecycle.stored(name, config.store.uri)
            take(run, owner, force=True) if force else refuse_anothers(run, owner)
        self._lifecycle.resume(name, config, lambda more, options: self.submit(self.plan(more, options)))

    def delete(self, name: str) -> None:
        """Remove the release of a run that has ended, and whatever else carries its labels."""
        self._lifecycle.delete(name)

    def execute(self, name: str, rank: int, command: Sequence[str]) -> int:
        """In the container of that rank."""
        view = self._view(name)
        if absent := absent_ranks(name, [rank], run_status(view).gpus):
            raise ConfigError(absent)
        # Beside a pod that a Job has replaced its end is kept.
        found = sorted(
            (pod for pod in view.pods if rank in pod_status(pod).ranks),
            key=lambda pod: pod_status(pod).state != "running",
        )
        if not found:
            known = ", ".join(str(rank) for pod in view.pods for rank in pod_status(pod).ranks) or "none"
            raise ConfigError(
                f"rank {rank} of run {name} has no pod (the run is {view.state}); ranks with a pod: {known}"
            )
        if pod_status(found[0]).state != "running":
            raise ConfigError(f"rank {rank} of run {name} is {pod_status(found[0]).state}, not running")
        container, ranks = str(main_container_of(found[0])["name"]), pod_status(found[0]).ranks
        if len(ranks) > 1:
            command = ("python", "-m", "tsp.run.pod_ranks", str(ranks.index(rank)), *command)
        return run_in_pod(self._cluster, found[0]["metadata"]["name"], container, command)

    def _view(self, name: str) -> RunView:
        view = self._runs.view(name)
        if view is None:
            raise NoSuchRunError(f"no run {name!r} in namespace {self._cluster.namespace}: see 'tspctl list'")
        return view

    def versions(self) -> Mapping[str, str]:
        """Of chart and image, as the settings or the chart itself name them."""
        reference = self._settings.chart or shipped_chart()
        facts = chart_facts(reference)
        return {
            "chart": f"{facts.name} {facts.version}" if facts else reference,
            "image": self._settings.image or (facts.image if facts else "the chart's own"),
        }

    def diagnose(self) -> Iterator[Finding]:
        """Helm, API server, operator, permissions, Pod Security Standard and GPU nodes."""
        return diagnose(self._settings, self._cluster, lambda: self._helm)
