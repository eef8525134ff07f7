"""One request to the API server and its answer, whatever that says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tsp.errors import ClusterError, UnreachableError

JSON = "application/json, */*"
_CONNECT_SEC = 5.0
_IDLE_SEC = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is sent, and how long the answer may take."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    accept: str = JSON
    idle_sec: float = _IDLE_SEC
    """How long the server may send nothing."""
    stream: bool = False
    """Leave the answer's body to the caller."""


def exchange(api: Any, request: Request, more_headers: Iterable[tuple[str, str]]) -> Any:
    """Send a request. Returns: urllib3's response.

    Args: api, the official client, logged in. Raises: UnreachableError; ClusterError for a token that cannot be sent.
    """
    import urllib3

    settings = api.configuration
    headers = urllib3.HTTPHeaderDict(
        {"Accept": request.accept, "Content-Type": request.content_type, "User-Agent": "tspctl"}
    )
    headers.extend(more_headers)
    # Asked for each request: tokens of credential plugins run out and are renewed there.
    for item in settings.auth_settings().values():
        if item["value"]:
            headers[item["key"]] = item["value"]
    url = settings.host + request.path + ("?" + urlencode(_plain(request.query)) if request.query else "")
    try:
        return api.rest_client.pool_manager.request(
            request.method,
            url,
            headers=headers,
            body=None if request.body is None else json.dumps(request.body).encode(),
            timeout=urllib3.Timeout(connect=_CONNECT_SEC, read=request.idle_sec),
            retries=False,
            preload_content=not request.stream,
        )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise UnreachableError(f"the API server {settings.host} does not answer: {error}") from error
    except ValueError:
        # Its text, and that of its causes, contains the token.
        raise ClusterError(
            f"no request to {settings.host} can be made: the token of the kubeconfig's user is not one line of "
            "plain characters; log in again, or correct it"
        ) from None


def _plain(query: Mapping[str, Any]) -> dict[str, str]:
    """Query values as the API writes them; None is left out."""
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in query.items()
        if value is not None
    }
