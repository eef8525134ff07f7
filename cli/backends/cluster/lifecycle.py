"""Stopping, resuming and removing runs of a cluster, even if some of their objects are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cli.backends.base import BackendOptions
from cli.backends.cluster.status import recorded_store, trainer_of
from cli.options.store import store_config
from k8s.admission import check_judged, check_objects
from k8s.helm import Chart, Helm, objects_in, shipped_chart
from k8s.job_apis import api_of
from k8s.names import kind_of
from k8s.preflight import refuse
from k8s.recorded_chart import recorded_chart
from k8s.release_claims import Claim, OvertakenError, claim, held, put_back
from k8s.release_record import Release
from k8s.releases import Releases
from k8s.run_list import RunView
from k8s.runs import Runs
from k8s.status import stopped_by_user, true_conditions
from k8s.train_jobs import refuse_changed_runtime, runtime_first
from k8s.values import with_attempts
from k8s.why_queue import without_queue
from tsp.config.codec import set_dotted
from tsp.config.run import RunConfig
from tsp.errors import ClusterError, ConfigError, NoSuchRunError, StoreError
from tsp.run.ownership import is_anothers
from tsp.run.records import Outcome
from tsp.run.status import ACTIVE, ENDED, TERMINATED

if TYPE_CHECKING:
    from cli.options.settings import Settings
    from cli.stores import Stores
    from tsp.run.stored_run import StoredRun

logger = logging.getLogger(__name__)

Stopped = Literal["cancelled", "suspended"]

_AFTER_GRACE_SEC = 15.0
"""A kubelet needs this long, beyond the grace of a pod, to report that it is gone."""
_GONE_TIMEOUT_SEC = 330.0
"""Longer than the chart's own grace period, which pods that still run have."""
_JOB_KINDS = ("PyTorchJob", "TrainJob", "Job")


def install(
    releases: Releases,
    helm: Helm,
    name: str,
    chart: Chart,
    values: dict[str, Any],
    *,
    manifest: str | None = None,
    claim: Claim | None = None,
) -> None:
    """Install a release, the runtime of a TrainJob first; if that fails, nothing remains.

    Args: manifest, what Helm sends for these values, if available; claim, of the release that it takes the place of.
    Raises: ConfigError if there is one of that name; ClusterError, also for a TrainJob in a queue that no controller
    manages.
    """
    if manifest is None:
        is_trainjob = (values.get("job") or {}).get("api") == "trainjob"
        manifest = helm.render(name, chart, values) if is_trainjob else ""
    objects = objects_in(manifest)
    with runtime_first(releases.cluster, objects) as judged:
        if judged is not None:
            refuse(check_judged(next(item for item in objects if item["kind"] == "TrainJob"), judged))
        releases.install(helm, name, chart, values, claim=claim)


class Lifecycle:
    """Operations on installed runs."""

    def __init__(
        self, settings: Settings, stores: Stores, runs: Runs, releases: Releases, helm: Callable[[], Helm]
    ) -> None:
        self._settings, self._stores = settings, stores
        self._runs, self._releases, self._helm = runs, releases, helm

    def stop(self, name: str, stopped: Stopped, grace_sec: float | None) -> None:
        """Take the pods away with time to save, and write the outcome down."""
        view = self._runs.view(name)
        if view is None:
            raise self._no_run(name)
        if view.state in ENDED or view.state == stopped:
            raise ConfigError(f"run {name} has already ended ({view.state})")
        if grace_sec is None:
            own = [int(pod["spec"].get("terminationGracePeriodSeconds", 30)) for pod in view.pods]
            grace_sec = max(own, default=0) + _AFTER_GRACE_SEC
        self._runs.set_suspended(name, True, stopped=stopped)
        if view.pods:
            logger.info("%s: its pods have up to %g s to save their state and end", name, grace_sec)
        are_gone = self._runs.wait_without_pods(
            name, timeout_sec=grace_sec, meanwhile=lambda: self._refuse_overtaken(view, stopped)
        )
        self._refuse_overtaken(view, stopped)
        if not are_gone:
            logger.warning("pods of %s are still there after %g s: deleting them", name, grace_sec)
            self._runs.kill_pods(name)
        if kind_of(view.job) == "train":
            self._write_outcome(view, stopped)

    def _refuse_overtaken(self, view: RunView, stopped: Stopped) -> None:
        """Leave the pods and the outcome of a run alone that goes on, or has gone, by another command.

        Raises: ConfigError.
        """
        name, uid = (view.job["metadata"].get(key) for key in ("name", "uid"))
        now = self._runs.find(str(name))
        if now is None or now["metadata"].get("uid") != uid:
            raise ConfigError(f"run {name} was deleted by another command while this one waited for its pods to end")
        state = stopped_by_user(now)
        if state != stopped:
            raise ConfigError(
                f"run {name} was {state or 'resumed'} by another command while this one waited for its pods to end"
            )

    def _no_run(self, name: str) -> ConfigError | NoSuchRunError:
        """The error for a run without a job."""
        if self._releases.find_own(name) is not None:
            return ConfigError(f"run {name} has no job to stop: remove it with 'tspctl delete {name}'")
        return NoSuchRunError(f"no run {name!r} in namespace {self._runs.cluster.namespace}: see 'tspctl list'")

    def _write_outcome(self, view: RunView, stopped: Stopped) -> None:
        """Write it to the store, where it outlives the release; the job also records it."""
        recorded = recorded_store(view.job)
        if recorded is None or "://" not in recorded.uri:
            return
        run = self.stored(view.job["metadata"]["name"], recorded.uri)
        try:
            if is_anothers(run, trainer_of(view.job)):
                return
            attempt = run.last_attempt()
            reason = f"requested by 'tspctl {'cancel' if stopped == 'cancelled' else 'suspend'}'"
            run.write_outcome(Outcome(state=stopped, exit_code=TERMINATED, reason=reason, attempt=attempt))
        except StoreError as error:
            logger.warning("%s has stopped, but its outcome could not be written to the store: %s", run.name, error)

    def stored(self, name: str, uri: str) -> StoredRun:
        """The run in its store, as reached from this machine."""
        return self._stores.run(store_config(self._settings, uri), name)

    def resume(self, name: str, config: RunConfig | None, submit: Callable[[RunConfig, BackendOptions], None]) -> None:
        """Bring back the pods of a stopped run; reinstall a release whose job has failed or is gone.

        Objects that were deleted meanwhile are created again, from Helm's record of the release, else from ``config``.
        """
        # In this order: a release that another command installs anew later can no longer be claimed.
        release = self._releases.find_own(name)
        view = self._runs.view(name)
        if view is None and release is None and config is None:
            raise NoSuchRunError(f"no run {name!r} in namespace {self._runs.cluster.namespace} or in its store")
        if view is not None and view.state not in ("suspended", "cancelled", "failed"):
            raise ConfigError(f"run {name} is {view.state}: there is nothing to resume")
        if view is not None and self._runs.is_held_without_queue(view.job):
            raise ConfigError(f"run {name} is held by Kueue, {without_queue(name)}")
        if view is not None and "Failed" not in true_conditions(view.job.get("status") or {}):
            if release is not None:
                refuse_changed_runtime(self._runs.cluster, self._releases.objects_of(release))
                for restored in self._releases.restore(release, but=_JOB_KINDS):
                    logger.warning("%s was missing and has been recreated", restored)
            if release is not None or not self._runs.lacks_config(view.job):
                self._runs.set_suspended(name, False, stopped=None)
                return
            logger.warning("%s has lost its ConfigMap", name)
        self._install_anew(name, config, release, submit)

    def _install_anew(
        self,
        name: str,
        config: RunConfig | None,
        release: Release | None,
        submit: Callable[[RunConfig, BackendOptions], None],
    ) -> None:
        values = self._values(release)
        if values and release is not None and api_of(self._releases.objects_of(release)) == "trainjob":
            # The original kind, whatever else the cluster serves now.
            set_dotted(values, "job.api", "trainjob")
        if config is None and not values:
            raise ClusterError(
                f"{name} cannot be resumed: Helm's record of it and its run.json in the store are both missing; "
                f"remove it with 'tspctl delete {name}' and submit again"
            )
        more = None if config is None else self.stored(name, config.store.uri).with_more_attempts(config)
        if values and release is not None:
            if more is not None:
                values = with_attempts(values, more.max_attempts)
            with recorded_chart(self._releases.content(release)) as original:
                present = Chart(reference=self._settings.chart or shipped_chart())
                chart, manifest = self._accepting(release, values, [present, *filter(None, [original])])
                refuse(check_objects(self._releases.cluster, objects_in(manifest), replacing=True))
                self._replace(release, chart, values, manifest)
            return
        if other := self._releases.other_chart(name):
            raise ConfigError(
                f"run {name} is a part of the Helm release {name} of another chart ({other}), which tspctl cannot "
                f"install again: remove the run with 'tspctl delete {name} --keep-store', and "
                "have it created by 'helm upgrade'"
            )
        logger.warning("Helm has no record of %s: it gets the image, queue and chart values that are set here", name)
        self._releases.remove(self._helm(), name)
        self.wait_gone(name)
        if more is not None:
            submit(more, BackendOptions(image=self._settings.image, queue=self._settings.queue))

    def _replace(self, release: Release, chart: Chart, values: dict[str, Any], manifest: str) -> None:
        """Remove a release and install it anew; if that fails, its record remains, from which resuming can go on."""
        own = claim(self._releases, release)
        try:
            self._releases.remove(self._helm(), release.name, claim=own)
            self.wait_gone(release.name, own)
            install(self._releases, self._helm(), release.name, chart, values, manifest=manifest, claim=own)
        except OvertakenError:
            raise  # whoever has removed the record meant it
        except BaseException:
            put_back(self._releases, own)
            raise

    def _accepting(self, release: Release, values: dict[str, Any], charts: Sequence[Chart]) -> tuple[Chart, str]:
        """The first chart that accepts the values of a release, and what it renders.

        Args: charts, the present one, and the one that the release was installed with.
        Raises: ClusterError if none does.
        """
        refusal = ""
        for chart in charts:
            try:
                manifest = self._helm().render(release.name, chart, values)
            except ConfigError as error:
                refusal = refusal or str(error)
                continue
            if refusal:
                logger.warning(
                    "%s continues with the chart that it was submitted with: this version's refuses its values (%s)",
                    release.name,
                    refusal,
                )
            return chart, manifest
        raise ClusterError(
            f"{release.name} is left as it is, since the chart refuses the values that it was submitted with: {refusal}"
            f"; remove it with 'tspctl delete {release.name} --keep-store', and submit it again"
        )

    def _values(self, release: Release | None) -> dict[str, Any]:
        found = None if release is None else self._releases.content(release).get("config")
        return found if isinstance(found, dict) else {}

    def delete(self, name: str) -> None:
        """Remove the release of a run that has ended, and whatever else carries the run's labels."""
        view = self._runs.view(name)
        if view is not None and view.state in ACTIVE:
            raise ConfigError(f"run {name} is {view.state}: stop it first with 'tspctl cancel {name}'")
        self._releases.remove(self._helm(), name)
        self.wait_gone(name)

    def wait_gone(self, name: str, own: Claim | None = None) -> None:
        """Wait until no object of an uninstalled release remains that would conflict with a new one of its name.

        Args: own, of the release, if its record is still there.
        Raises: ClusterError if an object remains; ConfigError if another process installs a release of that name.
        """

        def check() -> None:
            if own is not None:
                held(self._releases, own)
            elif self._releases.find_own(name) is not None:
                raise ConfigError(f"run {name} was resumed or submitted by another command while its old pods ended")

        # Not ``helm uninstall --wait``: it does not wait for pods, and Helm 4 wants more rights for it.
        if not self._runs.wait_gone(name, timeout_sec=_GONE_TIMEOUT_SEC, meanwhile=check):
            raise ClusterError(f"pods of {name} are still there after {_GONE_TIMEOUT_SEC:g} s: see 'kubectl get pods'")
