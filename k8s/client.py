"""The Kubernetes API. Objects go in and come out as plain dicts.

The official client only logs in (``k8s.login``); its model classes are not used, since building them costs more time
than the requests.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from k8s.answers import (
    BusyError,
    ForbiddenError,
    NotFoundError,
    handshake_refusal,
    parsed,
    refusal,
    warnings_in,
)
from k8s.kubeconfig import (
    context_namespace,
    credential_plugin,
    current_context,
    impersonation,
    kubeconfig_files,
)
from k8s.login import Login, log_in, official, own_namespace
from k8s.request import JSON, Request, exchange
from tsp.errors import ClusterError, UnreachableError

logger = logging.getLogger(__name__)

PAGE_ITEMS = 500
"""Objects per request of a long list; what kubectl asks for too."""
_RETRY_AFTER_SEC = (0.3, 1.0, 3.0)
_REFUSED_FOR_SEC = 60.0
"""A server that refuses what it allowed before may take that long: just started, it may not know its Roles yet."""
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterAddress:
    """Cluster and namespace, as in kubectl; None: those of the kubeconfig."""

    context: str | None = None
    kubeconfig: str | None = None
    namespace: str | None = None


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, where: ClusterAddress) -> None:
        self.where = where
        self._login = Login(lambda: log_in(self._files, self.context))
        self._refused_since: dict[str, float | None] = {}
        """Path -> None while it may be read, else when that began to be refused."""
        self._away_at = -math.inf
        """When the server did not answer last, by the monotonic clock."""
        self._warned: set[str] = set()

    @cached_property
    def namespace(self) -> str:
        """The requested namespace, else the context's, else that of the current pod, else ``default``."""
        if self.where.namespace:
            return self.where.namespace
        return context_namespace(self._files, self.context) or own_namespace() or "default"

    @cached_property
    def _files(self) -> tuple[str, ...]:
        return kubeconfig_files(self.where.kubeconfig, os.environ)

    @cached_property
    def context(self) -> str | None:
        """The requested context, else the current one; None inside a cluster."""
        return self.where.context or current_context(self._files)

    @property
    def _api(self) -> Any:
        return self._login.api

    @cached_property
    def _as_other_user(self) -> list[tuple[str, str]]:
        return impersonation(self._files, self.context)

    def plugin_token(self) -> str | None:
        """The token that the kubeconfig's credential plugin gave, if any."""
        if credential_plugin(self._files, self.context) is None:
            return None
        settings = self._api.configuration
        value = str(settings.get_api_key_with_prefix("BearerToken") or "")
        return value.removeprefix("Bearer ") or None

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._api.configuration.host)

    def namespaced(self, group_version: str, resource: str, name: str = "") -> str:
        """Path of a resource in the namespace: ``("v1", "pods")``, ``("kubeflow.org/v1", "pytorchjobs", "r")``."""
        root = "api" if "/" not in group_version else "apis"
        return f"/{root}/{group_version}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """One object. Raises: NotFoundError, ForbiddenError, UnreachableError, ClusterError."""
        return parsed(self._request("GET", path, query))

    def items(self, path: str, *, metadata_only: bool = False, **query: Any) -> Iterator[dict[str, Any]]:
        """Every object of a kind, page by page; with ``metadata_only`` without spec, status and data.

        A list that is read for minutes may expire; it is then read again from the start, and objects that were already
        returned are skipped.
        """
        seen: set[str] = set()
        token: str | None = None
        while True:
            try:
                asked = {"limit": PAGE_ITEMS, **({"continue": token} if token else {}), **query}
                page = parsed(self._request("GET", path, asked, accept=_METADATA_LIST if metadata_only else JSON))
            except ClusterError as error:
                if token is None or "HTTP 410" not in str(error):
                    raise
                token = None
                continue
            for item in page.get("items") or []:
                uid = item["metadata"].get("uid", "")
                if uid not in seen or not uid:
                    seen.add(uid)
                    yield item
            token = page["metadata"].get("continue")
            if not token:
                return

    def judge(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The API server's validation of a new object, including admission; nothing is created."""
        plural = item["kind"].lower() + "s"
        path = self.namespaced(item["apiVersion"], plural)
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        return parsed(self._request("POST", path, query, item))

    def create(self, path: str, item: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raises: ClusterError (HTTP 409) if there is one of that name."""
        return parsed(self._request("POST", path, {}, item))

    def replace(self, path: str, item: Mapping[str, Any]) -> dict[str, Any]:
        """Write an object that was read. Raises: ClusterError (HTTP 409) if it has been changed since then."""
        return parsed(self._request("PUT", path, {}, item))

    def patch(self, path: str, body: Mapping[str, Any], **query: Any) -> dict[str, Any]:
        """Merge ``body`` into an object."""
        return parsed(self._request("PATCH", path, query, body, content_type="application/merge-patch+json"))

    def delete(self, path: str, **query: Any) -> None:
        """Delete an object; it is not an error if it does not exist."""
        try:
            self._request("DELETE", path, query)
        except NotFoundError:
            logger.debug("%s is already gone", path)

    def may(
        self, verb: str, resource: str, *, group: str = "", subresource: str = "", everywhere: bool = False
    ) -> bool:
        """Whether this user may do so, in the namespace or (``everywhere``) in the cluster."""
        attributes = {"verb": verb, "resource": resource, "group": group, "subresource": subresource}
        if not everywhere:
            attributes["namespace"] = self.namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, body)
        return bool(parsed(answer).get("status", {}).get("allowed"))

    def read_log(self, pod: str, *, idle_sec: float, **query: Any) -> Iterator[bytes]:
        """Chunks of a container's log, as they come.

        Args: idle_sec, a connection that is silent for that long is considered dead; query as the API names it
            (container, follow, timestamps, sinceTime, tailLines, previous).
        Raises: NotFoundError once the pod is gone, UnreachableError when the connection breaks, ClusterError (HTTP 400)
            while the container has not started.
        """
        path = self.namespaced("v1", "pods", pod) + "/log"
        response = self._send(Request(method="GET", path=path, query=query, idle_sec=idle_sec, stream=True))
        try:
            import urllib3

            try:
                yield from response.stream(65536)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise UnreachableError(f"the log stream of {pod} was interrupted: {error}") from error
        finally:
            response.close()

    def open_shell(self, pod: str, container: str, command: list[str], *, tty: bool) -> Any:
        """A websocket to a command in a container, as ``kubernetes.stream`` has it."""
        client = official().client
        if str(self._api.configuration.proxy or "").startswith("socks"):
            raise ClusterError(f"commands cannot run in a pod through a SOCKS proxy: use 'kubectl exec {pod}'")
        if self._as_other_user:
            # The official client sends none of these headers with a websocket.
            raise ClusterError(f"commands cannot run in a pod as another user (as): use 'kubectl exec {pod}'")
        core = client.CoreV1Api(client.ApiClient(self._api.configuration))
        try:
            return official().stream.stream(
                core.connect_get_namespaced_pod_exec,
                pod,
                self.namespace,
                container=container,
                command=command,
                stdin=True,
                stdout=True,
                stderr=not tty,
                tty=tty,
                _preload_content=False,
                binary=True,
            )
        except client.ApiException as error:
            raise handshake_refusal(self.namespaced("v1", "pods", pod) + "/exec", str(error.reason)) from error

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = JSON,
    ) -> bytes:
        """Send, and send again what can be repeated while the server, or a webhook of it, is away; what a busy server
        did not take up can always be.
        """
        changes_twice = method == "POST" and "dryRun" not in query and "accessreviews" not in path
        request = Request(method=method, path=path, query=query, body=body, content_type=content_type, accept=accept)
        delays, said = iter(_RETRY_AFTER_SEC), ""
        while True:
            try:
                return bytes(self._send(request).data)
            except UnreachableError as error:
                delay_sec = next(delays, None)
                if delay_sec is None or (changes_twice and not isinstance(error, BusyError)):
                    raise
                is_news = method != "GET" and str(error) != said
                said = str(error)
                logger.log(logging.WARNING if is_news else logging.DEBUG, "%s; trying again", error)
                time.sleep(max(delay_sec, error.wait_sec) if isinstance(error, BusyError) else delay_sec)

    def _send(self, request: Request) -> Any:
        api = self._api
        try:
            response = exchange(api, request, self._as_other_user)
            if response.status == 401 and self._login.renew(api):
                response.release_conn()
                response = exchange(self._api, request, self._as_other_user)
        except UnreachableError:
            self._away_at = time.monotonic()
            raise
        self._check(response, request.method, request.path)
        return response

    def _check(self, response: Any, method: str, path: str) -> None:
        """Raises: as ``get``, unless the answer is what was asked for."""
        if response.status >= 400:
            later = str(response.headers.get("Retry-After", ""))
            refused = refusal(method, path, response.status, response.data, retry_after=later)
            if method == "GET" and isinstance(refused, ForbiddenError) and self._was_allowed(path):
                raise UnreachableError(f"the API server refuses what it allowed before: {refused}")
            if method == "GET" and isinstance(refused, NotFoundError):
                # Permissions are checked first.
                self._refused_since[path] = None
            raise refused
        if response.status >= 300:
            response.release_conn()
            elsewhere = str(response.headers.get("Location", "")).partition("?")[0]
            raise ClusterError(
                f"{self.server} redirects the request ({elsewhere}) instead of answering it: log in to the "
                "cluster again, or check the kubeconfig's server"
            )
        if method == "GET":
            self._refused_since[path] = None
        else:
            self._pass_on(warnings_in(response.headers.getlist("Warning")))

    def _pass_on(self, warnings: Iterable[str]) -> None:
        """What the server has to say of a change, once."""
        for text in warnings:
            if text not in self._warned:
                self._warned.add(text)
                logger.warning("the API server warns: %s", text)

    def _was_allowed(self, path: str) -> bool:
        """Whether this path could be read, up to a moment ago, or may have been before the server started again."""
        now = time.monotonic()
        if path not in self._refused_since and now - self._away_at >= _REFUSED_FOR_SEC:
            return False
        since = self._refused_since[path] = self._refused_since.get(path) or now
        return now - since < _REFUSED_FOR_SEC
