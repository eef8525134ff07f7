"""Selects the proxy for requests to the API server, by the rules of kubectl and Helm, which are Go's. Pure.

The official Python client has different rules, but checks and installation must use the same proxy.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes, urlsplit


def proxy_for(url: str, environment: Mapping[str, str], *, given: str | None = None) -> str | None:
    """Address of the proxy, or None for none.

    Args: url, of the API server; given, what the kubeconfig names (``proxy-url``), which wins.
    """
    if given:
        return given
    parts = urlsplit(url)
    host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
    name = "HTTPS_PROXY" if parts.scheme == "https" else "HTTP_PROXY"
    proxy = environment.get(name) or environment.get(name.lower())
    if not proxy or _is_loopback(host) or _is_excepted(host, port, environment):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def proxy_headers(proxy: str | None) -> dict[str, str]:
    """The header with the user and password of an HTTP proxy's address, which urllib3 leaves out; empty without any."""
    try:
        parts = urlsplit(proxy or "")
    except ValueError:
        # Whoever connects to it says what is wrong with it.
        return {}
    if parts.username is None or not parts.scheme.startswith("http"):
        return {}
    pair = b":".join(unquote_to_bytes(text or "") for text in (parts.username, parts.password))
    # Lower case: the client of websockets looks for it so.
    return {"proxy-authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _is_excepted(host: str, port: int, environment: Mapping[str, str]) -> bool:
    """Whether NO_PROXY names the host: itself, a domain of it, an address or a network; ``*`` names all."""
    texts = (environment.get("NO_PROXY") or environment.get("no_proxy") or "").split(",")
    return any(_names(text.strip().lower(), host, port) for text in texts if text.strip())


def _names(text: str, host: str, port: int) -> bool:
    if text == "*":
        return True
    address = _address(host)
    if "/" in text:
        try:
            return address is not None and address in ipaddress.ip_network(text, strict=False)
        except ValueError:
            return False
    head, colon, last = text.rpartition(":")
    if colon and last.isdigit() and ":" not in head:
        if int(last) != port:
            return False
        text = head
    if address is not None:
        return _address(text) == address
    text = text.removeprefix("*")
    if text.startswith("."):
        return host.endswith(text)
    return host == text or host.endswith("." + text)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
