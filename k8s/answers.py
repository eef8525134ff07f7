"""Responses of the API server as objects, or as errors that name the missing permission. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tsp.errors import ClusterError, UnreachableError

_VERBS = {"GET": "get", "PATCH": "patch", "DELETE": "delete", "POST": "create", "PUT": "update"}
_ADMISSION = re.compile(r'admission webhook "[^"]*" denied|" is forbidden: (?!User )')
"""Refused, but not for a missing permission, which names the user: by a webhook, which answers with any status, 401 and
429 among them; or by a quota, a security standard, a LimitRange, a policy, ...: all after ``is forbidden``."""


_NO_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)"')


_LONGEST_WAIT_SEC = 10.0
"""However long a server asks for: somebody waits for the answer."""


class NotFoundError(ClusterError):
    """The API server answered: there is no such object (or no such kind)."""


class ForbiddenError(ClusterError):
    """The API server refuses this user; the message names verb and resource."""


class BusyError(UnreachableError):
    """The server is overloaded, and says when to ask again."""

    def __init__(self, message: str, *, wait_sec: float) -> None:
        super().__init__(message)
        self.wait_sec = wait_sec


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises: ClusterError if it is none: something else answers there."""
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        begin = " ".join(data.decode(errors="replace").split())
        raise ClusterError(
            "the response is not from an API server, but perhaps from a login page or a proxy "
            f"({begin[:80]!r}...): log in to the cluster again, or check the kubeconfig's server and your proxy"
        )
    return answer


_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


def warnings_in(headers: Iterable[str]) -> Iterator[str]:
    """The texts of an answer's Warning headers: of policies that only warn, security standards, old versions."""
    for header in headers:
        yield from (re.sub(r"\\(.)", r"\1", text) for text in _WARNING.findall(header))


def permission(method: str, path: str) -> str:
    """The permission that a request needs, as in a Role: ``list pytorchjobs.kubeflow.org in namespace video``; for what
    is no resource, its address: ``get /apis/kubeflow.org/v1``.
    """
    kind, *way = path.strip("/").split("/")
    group, way = (way[0], way[2:]) if kind == "apis" and way else ("", way[1:])
    if not way:
        return f"{_VERBS[method]} {path}"
    namespace = ""
    if way[0] == "namespaces" and len(way) > 2:
        namespace, way = way[1], way[2:]
    resource, name, subresource = (*way, "", "", "")[:3]
    verb = "list" if method == "GET" and not name else _VERBS[method]
    what = resource + (f"/{subresource}" if subresource else "") + (f".{group}" if group else "")
    return f"{verb} {what} " + (f"in namespace {namespace}" if namespace else "in the whole cluster")


def refusal(method: str, path: str, status: int, data: bytes, *, retry_after: str = "") -> ClusterError:
    """The error of an answer, with the server's own words. Args: retry_after, the header, in seconds."""
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data[:300].decode(errors="replace").strip() or f"{method} {path}"
    if _ADMISSION.search(message):
        return ClusterError(message)
    if status == 404:
        return NotFoundError(message)
    if status == 403:
        return ForbiddenError(f"{message} (missing permission: {permission(method, path)}; see k8s/role.yaml)")
    if status == 401:
        return ForbiddenError(
            f"the API server does not accept this user: {message}; log in again or check the kubeconfig"
        )
    silent = _NO_WEBHOOK.search(message)
    if silent:
        return UnreachableError(
            f"the webhook {silent[1]} does not answer: is its controller running? ({message.rpartition(': ')[2]})"
        )
    if status in (429, 500, 502, 503, 504):
        text = f"the API server is not available now (HTTP {status}): {message}"
        wait_sec = min(float(retry_after), _LONGEST_WAIT_SEC) if retry_after.isdecimal() else 0.0
        return BusyError(text, wait_sec=wait_sec) if wait_sec else UnreachableError(text)
    return ClusterError(f"{message} (HTTP {status})")


def handshake_refusal(path: str, reason: str) -> ClusterError:
    """The error of a websocket that the server did not open.

    Args: path, of the pod's exec; reason, of the client: status, headers and body, as in
        ``Handshake status 403 Forbidden -+-+- {...} -+-+- {...}``.
    """
    what = f"cannot run a command in pod {path.split('/')[-2]}"
    head = re.match(r"Handshake status (\d+)", reason)
    body = reason.rpartition(" -+-+- ")[2]
    told = refusal("GET", path, int(head[1]), body.encode()) if head and '"message"' in body else None
    if told is not None:
        return (
            ForbiddenError(f"{what}: {told}") if isinstance(told, ForbiddenError) else ClusterError(f"{what}: {told}")
        )
    if head and head[1] == "403":
        return ForbiddenError(f"{what} (missing permission: {permission('GET', path)}; see k8s/role.yaml)")
    return ClusterError(f"{what}: {reason.splitlines()[0] if reason else 'no answer'}")
