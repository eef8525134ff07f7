"""What would make a run on this cluster fail, found before anything is created; ``tspctl doctor`` shows the same.

Each check is a function that yields findings; those of admission, controllers, permissions and references have files
of their own. A check for which the user lacks permission yields nothing: permissions in one namespace are enough for
the others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.controllers import find_operator
from tsp.errors import ClusterError
from tsp.run.status import Finding

logger = logging.getLogger(__name__)

_INJECTING = (
    ("istio-injection", "enabled"),
    ("linkerd.io/inject", "enabled"),
    ("kuma.io/sidecar-injection", "enabled"),
)
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
        found = cluster.get(f"/api/v1/namespaces/{namespace}")
    except NotFoundError:
        yield Finding("namespace", "error", f"{namespace} does not exist: create it or choose another with -n")
    except ForbiddenError:
        yield Finding("namespace", "ok", f"{namespace} (no permission to check that it exists)")
    else:
        if (found.get("metadata") or {}).get("deletionTimestamp"):
            message = f"{namespace} is being deleted with all that is in it: choose another with -n"
            yield Finding("namespace", "error", message)
        else:
            yield Finding("namespace", "ok", namespace)


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
