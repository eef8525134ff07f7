"""The kinds of training jobs that a cluster serves: PyTorchJobs, TrainJobs, or neither."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.names import PYTORCHJOBS, TRAINJOBS

Api = Literal["pytorchjob", "trainjob"]

_RESOURCES: Mapping[Api, tuple[str, str]] = {"pytorchjob": PYTORCHJOBS, "trainjob": TRAINJOBS}
_OLD_TRAINJOBS = ("kubeflow.org/v2alpha1", "trainjobs")
"""Of releases before Kubeflow Trainer 2.0, which had another shape."""
_KINDS: Mapping[Api, str] = {"pytorchjob": "PyTorchJob", "trainjob": "TrainJob"}
_UPDATES: Mapping[Api, str] = {
    "pytorchjob": "have an administrator update the training operator to v1.9",
    "trainjob": "update tspctl, or have an administrator install a Kubeflow Trainer that serves it",
}
_ADVICE = "have an administrator install the Kubeflow training operator v1.9 or Kubeflow Trainer 2.0 or newer"


def served_apis(cluster: Cluster) -> tuple[Api, ...]:
    """Those that the cluster serves; PyTorchJobs first, which are preferred."""
    return tuple(api for api, resource in _RESOURCES.items() if _is_served(cluster, resource))


def api_of(objects: Iterable[Mapping[str, Any]]) -> Api | None:
    """The kind of training job in a release; None for an auxiliary job."""
    kinds = {item["kind"] for item in objects}
    return "trainjob" if "TrainJob" in kinds else "pytorchjob" if "PyTorchJob" in kinds else None


def no_api(cluster: Cluster, api: Api | None, served: Collection[Api]) -> str:
    """The error if training cannot be submitted as requested, or not at all."""
    if (api == "trainjob" or not served) and _is_served(cluster, _OLD_TRAINJOBS):
        return (
            f"the cluster serves TrainJob {_OLD_TRAINJOBS[0]}, which is older than Kubeflow Trainer 2.0: "
            f"have an administrator update it"
        )
    for one, (wanted, plural) in _RESOURCES.items():
        if one == api or not served:
            for other in _versions(cluster, wanted.partition("/")[0]):
                if other != wanted and _is_served(cluster, (other, plural)):
                    return f"the cluster serves {_KINDS[one]} as {other}, not as {wanted}: {_UPDATES[one]}"
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


def _is_served(cluster: Cluster, resource: tuple[str, str]) -> bool:
    try:
        kinds = cluster.get(f"/apis/{resource[0]}").get("resources") or []
    except NotFoundError:
        return False
    return any(kind.get("name") == resource[1] for kind in kinds)
