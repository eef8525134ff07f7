"""The kinds of training jobs that a cluster serves: PyTorchJobs, TrainJobs, or neither. One row for each API."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.names import PYTORCHJOBS, RUNTIMES, TRAINJOBS, Object

Api = Literal["pytorchjob", "trainjob"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobApi:
    """What is known about an API that training can be submitted to."""

    kind: str
    resource: tuple[str, str]
    """Group with version, and resource."""
    more_resources: tuple[tuple[str, str], ...] = ()
    """What is created beside it."""
    controller: str
    """Who makes the pods."""
    least_spec: Object
    """Enough of an object for the controller to judge; it need not be right."""
    update: str
    """What helps where the cluster serves another version."""
    integration: str
    """What Kueue's configuration calls it."""

    @property
    def the_controller(self) -> str:
        """As a sentence has it: a product's name takes no article."""
        return self.controller if self.controller[0].isupper() else f"the {self.controller}"


JOB_APIS: dict[Api, JobApi] = {
    "pytorchjob": JobApi(
        kind="PyTorchJob",
        resource=PYTORCHJOBS,
        controller="training operator",
        least_spec={"pytorchReplicaSpecs": {}},
        update="have an administrator update the training operator to v1.9",
        integration="kubeflow.org/pytorchjob",
    ),
    "trainjob": JobApi(
        kind="TrainJob",
        resource=TRAINJOBS,
        more_resources=(RUNTIMES,),
        controller="Kubeflow Trainer",
        least_spec={"runtimeRef": {"name": "tspctl-doctor", "kind": "TrainingRuntime"}},
        update="update tspctl, or have an administrator install a Kubeflow Trainer that serves it",
        integration="trainer.kubeflow.org/trainjob (Kueue 0.14 or newer)",
    ),
}
"""Those that are preferred come first."""
_OLD_TRAINJOBS = ("kubeflow.org/v2alpha1", "trainjobs")
"""Of releases before Kubeflow Trainer 2.0, which had another shape."""
_ADVICE = "have an administrator install the Kubeflow training operator v1.9 or Kubeflow Trainer 2.0 or newer"


def served_apis(cluster: Cluster) -> tuple[Api, ...]:
    """Those that the cluster serves, in the order of ``JOB_APIS``."""
    return tuple(api for api, row in JOB_APIS.items() if is_served(cluster, row.resource))


def api_of(objects: Iterable[Mapping[str, Any]]) -> Api | None:
    """The kind of training job in a release; None for an auxiliary job."""
    kinds = {item["kind"] for item in objects}
    return next((api for api, row in reversed(JOB_APIS.items()) if row.kind in kinds), None)


def no_api(cluster: Cluster, api: Api | None, served: Collection[Api]) -> str:
    """The error if training cannot be submitted as requested, or not at all."""
    if (api == "trainjob" or not served) and is_served(cluster, _OLD_TRAINJOBS):
        return (
            f"the cluster serves TrainJob {_OLD_TRAINJOBS[0]}, which is older than Kubeflow Trainer 2.0: "
            f"have an administrator update it"
        )
    for one, row in JOB_APIS.items():
        wanted, plural = row.resource
        if one == api or not served:
            for other in _versions(cluster, wanted.partition("/")[0]):
                if other != wanted and is_served(cluster, (other, plural)):
                    return f"the cluster serves {row.kind} as {other}, not as {wanted}: {row.update}"
    if not served:
        return f"the cluster serves neither PyTorchJob nor TrainJob: {_ADVICE}"
    kind, known = ("TrainJob", "PyTorchJob") if api == "trainjob" else ("PyTorchJob", "TrainJob")
    return f"the cluster does not serve {kind}, but {known}: leave out --job-api (value job.api), or {_ADVICE}"


def _versions(cluster: Cluster, group: str) -> tuple[str, ...]:
    """All that is served of a group of APIs, as ``group/version``."""
    try:
        found = cluster.get(f"/apis/{group}").get("versions") or []
    except (NotFoundError, ForbiddenError):
        return ()
    return tuple(str(item.get("groupVersion")) for item in found)


def is_served(cluster: Cluster, resource: tuple[str, str]) -> bool:
    """Whether the cluster has that kind. Args: resource, group with version, and resource."""
    try:
        kinds = cluster.get(f"/apis/{resource[0]}").get("resources") or []
    except NotFoundError:
        return False
    return any(kind.get("name") == resource[1] for kind in kinds)
