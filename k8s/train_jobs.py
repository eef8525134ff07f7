"""TrainJobs of Kubeflow Trainer v2, whose pods a TrainingRuntime describes: one for each run, with the run's name.

Kubeflow Trainer refuses a TrainJob until it has seen the runtime, so the API server cannot validate both before one
exists. The runtime alone starts nothing. It is therefore created first, as Helm would create it; then the TrainJob is
validated, and only then Helm installs the release and adopts the runtime. If anything is refused on the way, the
runtime is removed again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from k8s.answers import NotFoundError
from k8s.client import Cluster
from k8s.names import RUNTIMES, Object
from tsp.errors import ClusterError, ConfigError

logger = logging.getLogger(__name__)

_LACKS_RUNTIME = "must be created before the TrainJob is created"
_SEEN_WITHIN_SEC = 15.0
"""Kubeflow Trainer needs a moment until it has seen a new runtime."""
_GONE_WITHIN_SEC = 60.0
"""The runtime of a run of that name that was deleted just now."""
_LOOK_EVERY_SEC = 0.25


def lacks_runtime(item: Object, error: ClusterError) -> bool:
    """Whether a TrainJob was refused only because its runtime is not there yet."""
    return item["kind"] == "TrainJob" and _LACKS_RUNTIME in str(error)


@contextmanager
def runtime_first(cluster: Cluster, objects: Sequence[Object]) -> Iterator[Object | None]:
    """Have the runtime of a release while it is installed, if it needs one; it stays unless that fails.

    Returns: the TrainJob as the API server would make it; None where there is none.
    Raises: ConfigError if there is a runtime of that name; ClusterError if the TrainJob would be refused.
    """
    runtimes = [item for item in objects if item["kind"] == "TrainingRuntime"]
    jobs = [item for item in objects if item["kind"] == "TrainJob"]
    if not runtimes or not jobs:
        yield None
        return
    path = cluster.namespaced(*RUNTIMES)
    name = runtimes[0]["metadata"]["name"]
    _create(cluster, path, runtimes[0])
    try:
        yield _judged(cluster, jobs[0])
    except BaseException:
        cluster.delete(f"{path}/{name}")
        raise


def _create(cluster: Cluster, path: str, runtime: Object) -> None:
    name = runtime["metadata"]["name"]
    deadline = time.monotonic() + _GONE_WITHIN_SEC
    while True:
        try:
            cluster.create(path, as_helm_has_it(runtime, name, cluster.namespace))
            return
        except ClusterError as error:
            if "HTTP 409" not in str(error):
                raise
            if not _is_going(cluster, f"{path}/{name}") or time.monotonic() > deadline:
                raise ConfigError(
                    f"namespace {cluster.namespace} already has a TrainingRuntime {name}: choose another --name, "
                    f"or remove it with 'tspctl delete {name}'"
                ) from error
        time.sleep(_LOOK_EVERY_SEC)


def _is_going(cluster: Cluster, path: str) -> bool:
    """Whether a runtime is being deleted: Kubeflow Trainer keeps it until its TrainJob is gone."""
    try:
        return bool(cluster.get(path)["metadata"].get("deletionTimestamp"))
    except NotFoundError:
        return True


def _judged(cluster: Cluster, job: Object) -> Object:
    deadline = time.monotonic() + _SEEN_WITHIN_SEC
    while True:
        try:
            return cluster.judge(job)
        except ClusterError as error:
            if not lacks_runtime(job, error) or time.monotonic() > deadline:
                raise ClusterError(
                    f"TrainJob {job['metadata']['name']}: the API server would refuse it: {error}"
                ) from error
        time.sleep(_LOOK_EVERY_SEC)


def as_helm_has_it(item: Object, name: str, namespace: str) -> dict[str, Any]:
    """An object with Helm's ownership annotations."""
    owner = {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}
    metadata = item["metadata"]
    return {**item, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **owner}}}


def refuse_changed_runtime(cluster: Cluster, objects: Sequence[Object]) -> None:
    """Refuse to continue with a runtime that was changed since the run was installed.

    Args: objects, of the release.
    Raises: ClusterError.
    """
    for item in objects:
        if item["kind"] != "TrainingRuntime":
            continue
        name = item["metadata"]["name"]
        try:
            found = cluster.get(cluster.namespaced(*RUNTIMES, name))
        except NotFoundError:
            continue
        # With the defaults that the API server gives it.
        ours = cluster.judge({**item, "metadata": {**item["metadata"], "name": f"{name}-as-submitted"}})
        if found.get("spec") != ours.get("spec"):
            raise ClusterError(
                f"TrainingRuntime {name} has changed since the run was submitted, and new pods would use the "
                f"change: remove the run from the cluster with 'tspctl delete {name} --keep-store', then continue "
                f"with 'tspctl resume {name}'"
            )
