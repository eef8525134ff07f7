"""Checks that the objects a pod refers to exist: Secrets with their keys, ConfigMaps, claims, account, queue."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from k8s.answers import ForbiddenError, NotFoundError
from k8s.client import Cluster
from k8s.names import KUEUE_VERSIONS, QUEUE_PRIORITY_LABEL, Object
from tsp.config.store import CREDENTIAL_VARIABLES
from tsp.run.status import Finding

logger = logging.getLogger(__name__)

_KINDS = {"persistentvolumeclaims": "volume claim", "localqueues": "queue"}
_PULL_SECRETS = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")
"""Types of Secrets that the kubelet pulls images with; it silently passes over any other."""
_VOLUMES = (("secret", "secretName", "secrets"), ("configMap", "name", "configmaps"))
_ENV_SOURCES = {
    "secretKeyRef": "secrets",
    "secretRef": "secrets",
    "configMapKeyRef": "configmaps",
    "configMapRef": "configmaps",
}


def check_references(cluster: Cluster, pod: Object, *, own: Iterable[str], queue: str | None) -> Iterator[Finding]:
    """Does what a pod refers to exist, as it must be?

    Args: pod, the spec of its template; own, names that the release itself brings.
    """
    keys: dict[tuple[str, str], set[str]] = {}
    for resource, name, key in _references(pod):
        if name not in set(own):
            keys.setdefault((resource, name), set()).update([key] if key else [])
    pulls_with = {item["name"] for item in pod.get("imagePullSecrets") or []}
    for (resource, name), wanted in sorted(keys.items()):
        is_pull_secret = resource == "secrets" and name in pulls_with
        yield from _exists(cluster, ("v1",), resource, name, keys=wanted, is_pull_secret=is_pull_secret)
    if queue:
        yield from _exists(cluster, KUEUE_VERSIONS, "localqueues", queue)


def check_priority(cluster: Cluster, pod: Object, labels: Mapping[str, str]) -> Iterator[Finding]:
    """Does the priority exist that a run requests? Kueue silently ignores a run with an unknown one.

    Args: pod, the spec of its template; labels, of its job.
    """
    for kind, versions, name in (
        ("PriorityClass", ("scheduling.k8s.io/v1",), pod.get("priorityClassName")),
        ("WorkloadPriorityClass", KUEUE_VERSIONS, labels.get(QUEUE_PRIORITY_LABEL)),
    ):
        if not name:
            continue
        try:
            found = _first(cluster, [f"/apis/{version}/{kind.lower()}es/{name}" for version in versions])
        except ForbiddenError as error:
            logger.debug("%s", error)
            message = f"--priority {name}: no permission to check that this {kind} exists; without it no pod starts"
            yield Finding("priority", "warning", message)
            continue
        if found is None:
            yield Finding("priority", "error", f"--priority {name}: the cluster has no {kind} of that name")


def check_credentials(cluster: Cluster, pod: Object) -> Iterator[Finding]:
    """Are the store's credentials in Secrets what a server accepts? ``echo KEY | base64`` adds a line break, with which
    a pod would be refused as one with another key, or could not even send it.

    Args: pod, the spec of its template. A Secret that is absent, or may not be read, is ``check_references``' matter.
    """
    keys: dict[str, set[str]] = {}
    for container in pod.get("containers") or []:
        for item in container.get("env") or []:
            source = (item.get("valueFrom") or {}).get("secretKeyRef")
            if source and str(item["name"]).startswith(CREDENTIAL_VARIABLES):
                keys.setdefault(source["name"], set()).add(source["key"])
        for item in container.get("envFrom") or []:
            if "secretRef" in item:
                keys.setdefault(item["secretRef"]["name"], set())
    for name, referred in sorted(keys.items()):
        try:
            data = cluster.get(cluster.namespaced("v1", "secrets", name)).get("data") or {}
        except (NotFoundError, ForbiddenError) as error:
            logger.debug("%s", error)
            continue
        for key in sorted({key for key in data if key in referred or key.startswith(CREDENTIAL_VARIABLES)}):
            flaw = _flaw_of_credential(data[key])
            if flaw:
                advice = "make it again with 'kubectl create secret generic --from-literal'"
                yield Finding("secret", "error", f"{name}: its key {key} {flaw}: {advice}")


def _flaw_of_credential(encoded: str) -> str | None:
    """Args: encoded, as a Secret has it."""
    try:
        text = base64.b64decode(encoded).decode()
    except ValueError:
        return "is not text"
    if not text.strip():
        return "is empty"
    return None if text == text.strip() else "begins or ends with a line break or a space"


def _references(pod: Object) -> Iterator[tuple[str, str, str | None]]:
    """Resource, name, and the key in it where one is named."""
    for item in pod.get("imagePullSecrets") or []:
        yield "secrets", item["name"], None
    if pod.get("serviceAccountName") not in (None, "default"):
        yield "serviceaccounts", pod["serviceAccountName"], None
    for volume in pod.get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            yield "persistentvolumeclaims", volume["persistentVolumeClaim"]["claimName"], None
        for kind, name_key, resource in _VOLUMES:
            if kind in volume and not volume[kind].get("optional"):
                yield resource, volume[kind][name_key], None
    for container in pod.get("containers") or []:
        sources = [item.get("valueFrom") or {} for item in container.get("env") or []]
        for source in sources + list(container.get("envFrom") or []):
            for kind, resource in _ENV_SOURCES.items():
                if kind in source and not source[kind].get("optional"):
                    yield resource, source[kind]["name"], source[kind].get("key")


def _exists(
    cluster: Cluster,
    versions: Sequence[str],
    resource: str,
    name: str,
    *,
    keys: Iterable[str] = (),
    is_pull_secret: bool = False,
) -> Iterator[Finding]:
    kind = _KINDS.get(resource, resource.removesuffix("s"))
    try:
        found = _first(cluster, [cluster.namespaced(version, resource, name) for version in versions])
    except ForbiddenError as error:
        logger.debug("%s", error)
        yield Finding(
            kind, "warning", f"{name}: no permission to check that it exists in namespace {cluster.namespace}"
        )
        return
    if found is None:
        message = f"{name} does not exist in namespace {cluster.namespace}, and the pods refer to it"
        yield Finding(kind, "error", message)
        return
    missing = sorted(set(keys) - {*(found.get("data") or {}), *(found.get("binaryData") or {})})
    if missing:
        yield Finding(kind, "error", f"{name} lacks the key {', '.join(missing)}, which the pods refer to")
    if is_pull_secret and found.get("type") not in _PULL_SECRETS:
        advice = "make it with 'kubectl create secret docker-registry'"
        yield Finding(
            kind, "error", f"{name} is of type {found.get('type')}, which cannot be used to pull images: {advice}"
        )
    yield from _stopped_queue(kind, found) if resource == "localqueues" else ()
    phase = (found.get("status") or {}).get("phase") if resource == "persistentvolumeclaims" else None
    if phase == "Lost":
        yield Finding(kind, "error", f"{name} has lost its volume")
    if phase == "Pending":
        advice = "unless its storage class binds on first use, the pods wait for it"
        yield Finding(kind, "warning", f"{name} is not bound to a volume yet: {advice}")


def _stopped_queue(kind: str, queue: Object) -> Iterator[Finding]:
    """A queue that holds runs and admits none: stopped, or without a working ClusterQueue."""
    for item in (queue.get("status") or {}).get("conditions") or []:
        if item.get("type") == "Active" and item.get("status") == "False":
            said = str(item.get("message") or item.get("reason")).rstrip(". ")
            advice = "the run waits until an administrator changes that"
            yield Finding(kind, "warning", f"{queue['metadata']['name']} admits nothing ({said}): {advice}")


def _first(cluster: Cluster, paths: Iterable[str]) -> dict[str, Any] | None:
    """The object at the first path that has one."""
    for path in paths:
        try:
            return cluster.get(path)
        except NotFoundError:
            continue
    return None
