"""What would make a run on this cluster fail, found before anything is created; ``tspctl doctor`` shows the same.

Each check is a function that yields findings. A check that its user may not make says nothing: namespace-only rights
are enough for everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from k8s.client import Cluster, ForbiddenError, NotFoundError
from k8s.names import PYTORCHJOBS, QUEUE_LABEL
from k8s.pod_options import is_ignored_by_kueue
from tsp.errors import ClusterError
from tsp.run.status import Finding

logger = logging.getLogger(__name__)

Object = Mapping[str, Any]

_ALL = ("create", "delete", "get", "list", "patch")
NEEDED = (
    *((verb, "kubeflow.org", "pytorchjobs", "") for verb in _ALL),
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
_ASKED_AT_A_TIME = 8

_INJECTING = (
    ("istio-injection", "enabled"),
    ("linkerd.io/inject", "enabled"),
    ("kuma.io/sidecar-injection", "enabled"),
)
_INTEGRATIONS = {"PyTorchJob": "kubeflow.org/pytorchjob", "Job": "batch/job"}
_OPERATOR_SELECTORS = ("control-plane=kubeflow-training-operator", "app.kubernetes.io/name=training-operator")
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
        yield Finding("namespace", "ok", f"{namespace} (whether it exists may not be asked)")
    else:
        yield Finding("namespace", "ok", namespace)


def check_operator(cluster: Cluster) -> Iterator[Finding]:
    """Is the training operator's kind of job known, and does the operator run?"""
    try:
        kinds = cluster.get(f"/apis/{PYTORCHJOBS[0]}").get("resources") or []
    except NotFoundError:
        kinds = []
    if not any(kind.get("name") == PYTORCHJOBS[1] for kind in kinds):
        yield Finding(
            "training operator",
            "error",
            "the cluster knows no PyTorchJob: have an administrator install the Kubeflow training operator v1.9",
        )
        return
    operator = find_operator(cluster)
    if operator is None:
        yield Finding("training operator", "ok", "PyTorchJob is known (where the operator runs is not to be seen)")
    elif not (operator.get("status") or {}).get("availableReplicas"):
        yield Finding(
            "training operator", "error", f"{_address(operator)} has no pod that is ready: runs would wait for it"
        )
    else:
        yield Finding("training operator", "ok", f"{_address(operator)} runs")


def find_operator(cluster: Cluster) -> dict[str, Any] | None:
    """The operator's Deployment; None where it is not to be seen."""
    for selector in _OPERATOR_SELECTORS:
        try:
            found = next(cluster.items("/apis/apps/v1/deployments", labelSelector=selector), None)
        except (ForbiddenError, NotFoundError):
            return None
        if found is not None:
            return found
    return None


def check_permissions(cluster: Cluster) -> Iterator[Finding]:
    """May this user do what submit and logs need?"""

    def is_missing(right: tuple[str, str, str, str]) -> bool:
        verb, group, resource, subresource = right
        return not cluster.may(verb, resource, group=group, subresource=subresource)

    with ThreadPoolExecutor(_ASKED_AT_A_TIME) as asking:
        answers = zip(NEEDED, asking.map(is_missing, NEEDED), strict=True)
        missing = [
            f"{verb} {resource}{'/' + subresource if subresource else ''}{'.' + group if group else ''}"
            for (verb, group, resource, subresource), lacking in answers
            if lacking
        ]
    if missing:
        advice = f"in namespace {cluster.namespace}; have an administrator bind the Role of k8s/role.yaml"
        yield Finding("permissions", "error", f"missing: {', '.join(missing)} {advice}")
    else:
        yield Finding("permissions", "ok", f"all that tspctl needs in namespace {cluster.namespace}")
    if cluster.may("list", "nodes", everywhere=True):
        yield Finding("nodes", "ok", "may be listed")
    else:
        yield Finding(
            "nodes", "warning", "may not be listed: the pods choose the downscale factor on the cards they find"
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
        yield Finding(
            "security standard", "ok", "restricted, and the operator has an init container template of its own"
        )
        return
    yield Finding(
        "security standard",
        "warning",
        "the namespace enforces restricted, which refuses workers unless the operator's init container has a security "
        f"context: start the operator with {_INIT_TEMPLATE_FLAG} (charts/tsp/README.md)",
    )


def check_objects(cluster: Cluster, objects: Iterable[Object]) -> Iterator[Finding]:
    """Would the API server take the objects: schema, webhooks, quota of objects, rights?"""
    for item in objects:
        what = f"{item['kind']} {item['metadata']['name']}"
        try:
            judged = cluster.judge(item)
        except ClusterError as error:
            yield Finding(what, "error", f"the API server would refuse it: {error}")
            continue
        if is_ignored_by_kueue(judged):
            yield Finding(
                what,
                "error",
                f"it names the queue {judged['metadata']['labels'][QUEUE_LABEL]}, but nobody holds it back: it would "
                f"start at once, past every quota; have an administrator enable the integration "
                f"{_INTEGRATIONS.get(item['kind'], item['kind'])} in Kueue's configuration, or leave out --queue",
            )


def check_sidecars(cluster: Cluster) -> Iterator[Finding]:
    """Does the namespace have containers injected? One that does not end keeps a job from ending."""
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
        f"the namespace has the label {found}: an injected container that does not end keeps a job from ending; turn "
        f"it off for these pods (for Istio: podLabels.sidecar\\.istio\\.io/inject=false)",
    )


def _address(operator: Object) -> str:
    return f"{operator['metadata'].get('namespace')}/{operator['metadata']['name']}"
