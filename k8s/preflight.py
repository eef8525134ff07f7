"""What would make a run on this cluster fail, found before anything is created; ``tspctl doctor`` shows the same.

Each check is a function that yields findings. A check for which the user lacks permission yields nothing: permissions
in one namespace are enough for the others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.job_apis import Api, no_api, served_apis
from k8s.names import PYTORCHJOBS, QUEUE_LABEL, RUNTIMES, TRAINJOBS
from k8s.pod_options import is_ignored_by_kueue
from k8s.train_jobs import lacks_runtime
from tsp.errors import ClusterError, UnreachableError
from tsp.run.status import Finding

logger = logging.getLogger(__name__)

Object = Mapping[str, Any]

_ALL = ("create", "delete", "get", "list", "patch")
NEEDED = (
    *((verb, "batch", "jobs", "") for verb in _ALL),
    *(
        (verb, "", resource, "")
        for resource in ("configmaps", "serviceaccounts")
        for verb in ("create", "delete", "get")
    ),
    *((verb, "", "secrets", "") for verb in ("create", "delete", "get", "list", "update")),
    *((verb, "", "pods", "") for verb in ("delete", "get", "list")),
    ("get", "", "pods", "log"),
)
"""Verb, group, resource, subresource without which a run cannot be submitted, followed, stopped and removed.

Helm keeps a release in a Secret, which it updates; what it makes, it looks for before.
"""
NEEDED_FOR: Mapping[Api, tuple[tuple[str, str, str, str], ...]] = {
    "pytorchjob": tuple((verb, "kubeflow.org", "pytorchjobs", "") for verb in _ALL),
    "trainjob": tuple(
        (verb, TRAINJOBS[0].partition("/")[0], resource, "")
        for resource in (TRAINJOBS[1], RUNTIMES[1])
        for verb in _ALL
    ),
}
"""The same for what training is submitted as."""
_ASKED_AT_A_TIME = 8

_INJECTING = (
    ("istio-injection", "enabled"),
    ("linkerd.io/inject", "enabled"),
    ("kuma.io/sidecar-injection", "enabled"),
)
_INTEGRATIONS = {
    "PyTorchJob": "kubeflow.org/pytorchjob",
    "TrainJob": "trainer.kubeflow.org/trainjob (Kueue 0.14 or newer)",
    "Job": "batch/job",
}
_OPERATOR_SELECTORS = ("control-plane=kubeflow-training-operator", "app.kubernetes.io/name=training-operator")
_TRAINER_SELECTORS = ("app.kubernetes.io/name in (trainer,kubeflow-trainer),app.kubernetes.io/component=manager",)
_GANG_GROUPS = {"volcano": "scheduling.volcano.sh", "coscheduling": "scheduling.x-k8s.io"}
_CONTROLLERS: Mapping[Api, str] = {"pytorchjob": "training operator", "trainjob": "Kubeflow Trainer"}
_PROBES: Mapping[Api, Object] = {
    "pytorchjob": {
        "apiVersion": PYTORCHJOBS[0],
        "kind": "PyTorchJob",
        "metadata": {"name": "tspctl-doctor"},
        "spec": {"pytorchReplicaSpecs": {}},
    },
    "trainjob": {
        "apiVersion": TRAINJOBS[0],
        "kind": "TrainJob",
        "metadata": {"name": "tspctl-doctor"},
        "spec": {"runtimeRef": {"name": "tspctl-doctor", "kind": "TrainingRuntime"}},
    },
}
_GANG_FLAG = "--gang-scheduler-name"
_INIT_TEMPLATE_FLAG = "--pytorch-init-container-template-file"


def refuse(findings: Iterable[Finding]) -> None:
    """Log warnings; raise the first error.

    Raises: ClusterError.
    """
    for finding in findings:
        if finding.level == "error":
            raise ClusterError(f"{finding.what}: {finding.message}")
        if finding.level == "warning":
            logger.warning("%s: %s", finding.what, finding.message)


def check_server(cluster: Cluster) -> Iterator[Finding]:
    """Is there an API server, and does it have the namespace?"""
    version = cluster.get("/version").get("gitVersion", "?")
    yield Finding("API server", "ok", f"{cluster.server}, Kubernetes {version}")
    namespace = cluster.namespace
    try:
        cluster.get(f"/api/v1/namespaces/{namespace}")
    except NotFoundError:
        yield Finding("namespace", "error", f"{namespace} does not exist: create it or choose another with -n")
    except ForbiddenError:
        yield Finding("namespace", "ok", f"{namespace} (no permission to check that it exists)")
    else:
        yield Finding("namespace", "ok", namespace)


def check_job_api(cluster: Cluster, api: Api | None) -> Iterator[Finding]:
    """Does the cluster serve the kind of training job, and does its controller run?

    Args: api, None: whichever the cluster serves.
    """
    served = served_apis(cluster)
    if not served or (api is not None and api not in served):
        yield Finding("training", "error", no_api(cluster, api, served))
        return
    for one in served if api is None else (api,):
        yield from _check_operator(cluster) if one == "pytorchjob" else _check_trainer(cluster)


def _check_operator(cluster: Cluster) -> Iterator[Finding]:
    yield _running("training operator", "PyTorchJob", find_operator(cluster))


def _check_trainer(cluster: Cluster) -> Iterator[Finding]:
    try:
        cluster.get("/apis/jobset.x-k8s.io/v1alpha2")
    except NotFoundError:
        message = "it needs JobSet, which the cluster lacks: have an administrator install JobSet"
        yield Finding("Kubeflow Trainer", "error", message)
        return
    yield _running("Kubeflow Trainer", "TrainJob", _deployment(cluster, _TRAINER_SELECTORS))


def _running(what: str, kind: str, deployment: Object | None) -> Finding:
    if deployment is None:
        return Finding(what, "ok", f"{kind} is served (its controller is not visible)")
    if not (deployment.get("status") or {}).get("availableReplicas"):
        return Finding(what, "error", f"{_address(deployment)} has no ready pod: runs would wait for it")
    return Finding(what, "ok", f"{_address(deployment)} runs")


def find_operator(cluster: Cluster) -> dict[str, Any] | None:
    """The training operator's Deployment; None where it is not to be seen."""
    return _deployment(cluster, _OPERATOR_SELECTORS)


def _deployment(cluster: Cluster, selectors: Iterable[str]) -> dict[str, Any] | None:
    for selector in selectors:
        try:
            found = next(cluster.items("/apis/apps/v1/deployments", labelSelector=selector), None)
        except (ForbiddenError, NotFoundError):
            return None
        if found is not None:
            return found
    return None


def check_webhooks(cluster: Cluster, apis: Iterable[Api]) -> Iterator[Finding]:
    """Do the webhooks that validate training jobs answer? Every user who may submit can check this, without seeing the
    controllers' pods. Nothing is created, and the submitted object need not be valid.
    """
    for api in apis:
        try:
            cluster.judge(_PROBES[api])
        except UnreachableError as error:
            yield Finding(_CONTROLLERS[api], "error", str(error))
        except ClusterError as error:
            logger.debug("%s", error)


def served_gangs(cluster: Cluster) -> set[str]:
    """Gang schedulers whose kinds the cluster serves."""
    known = {item["name"] for item in cluster.get("/apis").get("groups") or []}
    return {gang for gang, group in _GANG_GROUPS.items() if group in known}


def check_gang(cluster: Cluster, gang: str, api: Api) -> Iterator[Finding]:
    """Is the scheduler there that is to start all pods of a run or none?"""
    group = _GANG_GROUPS.get(gang)
    if group is None:
        return
    if gang not in served_gangs(cluster):
        message = f"--gang {gang}: the cluster serves no {group}: have an administrator install {gang}"
        yield Finding("gang scheduling", "error", f"{message}, or leave out --gang")
        return
    operator = find_operator(cluster) if api == "pytorchjob" else None
    if operator is not None and _GANG_FLAG not in str(operator["spec"]["template"]["spec"]):
        advice = f"have an administrator start it with {_GANG_FLAG}, or leave out --gang"
        yield Finding(
            "gang scheduling", "error", f"--gang {gang}: {_address(operator)} runs without gang scheduling: {advice}"
        )


def check_permissions(cluster: Cluster, apis: Iterable[Api] = ()) -> Iterator[Finding]:
    """May this user do what submit and logs need?

    Args: apis, what training is submitted as.
    """
    needed = [*(right for api in apis for right in NEEDED_FOR[api]), *NEEDED]

    def is_missing(right: tuple[str, str, str, str]) -> bool:
        verb, group, resource, subresource = right
        return not cluster.may(verb, resource, group=group, subresource=subresource)

    with ThreadPoolExecutor(_ASKED_AT_A_TIME) as asking:
        answers = zip(needed, asking.map(is_missing, needed), strict=True)
        missing = [
            f"{verb} {resource}{'/' + subresource if subresource else ''}{'.' + group if group else ''}"
            for (verb, group, resource, subresource), lacking in answers
            if lacking
        ]
    if missing:
        advice = f"in namespace {cluster.namespace}; have an administrator bind the Role of k8s/role.yaml"
        yield Finding("permissions", "error", f"missing: {', '.join(missing)} {advice}")
    else:
        yield Finding("permissions", "ok", f"all required permissions in namespace {cluster.namespace}")
    if cluster.may("list", "nodes", everywhere=True):
        yield Finding("nodes", "ok", "may be listed")
    else:
        yield Finding(
            "nodes",
            "warning",
            "no permission to list nodes: the pods choose the downscale factor from the GPUs they find",
        )


def check_security_standard(cluster: Cluster, *, workers: bool = True) -> Iterator[Finding]:
    """Would the namespace refuse the operator's own init container in workers?"""
    try:
        labels = cluster.get(f"/api/v1/namespaces/{cluster.namespace}")["metadata"].get("labels") or {}
    except (ForbiddenError, NotFoundError):
        return
    standard = labels.get("pod-security.kubernetes.io/enforce")
    if standard != "restricted" or not workers:
        yield Finding("security standard", "ok", standard or "none is enforced")
        return
    operator = find_operator(cluster)
    if operator is not None and _INIT_TEMPLATE_FLAG in str(operator["spec"]["template"]["spec"]):
        yield Finding("security standard", "ok", "restricted, and the operator has its own init container template")
        return
    yield Finding(
        "security standard",
        "warning",
        "the namespace enforces restricted, which refuses workers unless the operator's init container has a security "
        f"context: start the operator with {_INIT_TEMPLATE_FLAG} (charts/tsp/README.md)",
    )


def check_objects(cluster: Cluster, objects: Iterable[Object]) -> Iterator[Finding]:
    """Would the API server accept the objects: schema, webhooks, quota of objects, permissions?"""
    for item in objects:
        what = f"{item['kind']} {item['metadata']['name']}"
        try:
            judged = cluster.judge(item)
        except ClusterError as error:
            if lacks_runtime(item, error):
                # Installing creates the runtime first, and has the TrainJob judged then.
                continue
            yield Finding(what, "error", _refused(item, error))
            continue
        if is_ignored_by_kueue(judged):
            yield Finding(what, "error", explain_ignored(judged, item["kind"]))


def _refused(item: Object, error: ClusterError) -> str:
    if "already exists" not in str(error):
        return f"the API server would refuse it: {error}"
    kind, name = item["kind"], item["metadata"]["name"]
    return (
        "an object of that name already exists and does not belong to this run: choose another --name, or remove "
        f"it with 'kubectl delete {kind.lower()} {name}'"
    )


def explain_ignored(judged: Object, kind: str) -> str:
    """The message for a job whose queue no controller manages."""
    return (
        f"it names the queue {judged['metadata']['labels'][QUEUE_LABEL]}, but Kueue does not manage it: it would "
        "start at once and ignore every quota; have an administrator enable the integration "
        f"{_INTEGRATIONS.get(kind, kind)} in Kueue's configuration, or leave out --queue"
    )


def check_sidecars(cluster: Cluster) -> Iterator[Finding]:
    """Are containers injected in the namespace? One that keeps running would keep a job from ending."""
    try:
        labels = cluster.get(f"/api/v1/namespaces/{cluster.namespace}")["metadata"].get("labels") or {}
    except (ForbiddenError, NotFoundError):
        return
    found = next((f"{key}={labels[key]}" for key, value in _INJECTING if labels.get(key) == value), None)
    if found is None:
        yield Finding("sidecars", "ok", "none are injected")
        return
    yield Finding(
        "sidecars",
        "warning",
        f"the namespace has the label {found}: an injected container that keeps running would keep the job from "
        "ending; turn injection off for these pods (for Istio: podLabels.sidecar\\.istio\\.io/inject=false)",
    )


def _address(operator: Object) -> str:
    return f"{operator['metadata'].get('namespace')}/{operator['metadata']['name']}"
