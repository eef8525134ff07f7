"""Selects kubeconfig files and context by kubectl's rules.

The official Python client takes the current context from the last file of KUBECONFIG, kubectl and Helm from the first
one that names any. Checks and installation must use the same cluster, so the context is decided here for both.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tsp.errors import ClusterError

DEFAULT = "~/.kube/config"
_SECTIONS = ("clusters", "contexts", "users")


def kubeconfig_files(given: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Files that exist and hold anything: the one given, else those of KUBECONFIG, else the default one.

    Raises: ClusterError if the requested one does not exist.
    """
    if given:
        if not Path(given).expanduser().is_file():
            raise ClusterError(f"no cluster to talk to: the kubeconfig file {given} does not exist; check --kubeconfig")
        return (str(Path(given).expanduser()),)
    texts = [text for text in environment.get("KUBECONFIG", "").split(os.pathsep) if text] or [DEFAULT]
    paths = [Path(text).expanduser() for text in texts]
    return tuple(str(path) for path in paths if path.is_file() and _read(path))


def current_context(files: Sequence[str]) -> str | None:
    """The first one that a file names."""
    found = (_read(Path(file)).get("current-context") for file in files)
    return next((str(name) for name in found if name), None)


def context_namespace(files: Sequence[str], context: str | None) -> str | None:
    """The namespace that the context names."""
    found = _context(files, context).get("namespace")
    return str(found) if found else None


def proxy_url(files: Sequence[str], context: str | None) -> str | None:
    """The proxy that the context's cluster names."""
    cluster = _cluster(files, context)
    return str(cluster["proxy-url"]) if cluster.get("proxy-url") else None


def contradicts_itself(files: Sequence[str], context: str | None) -> bool:
    """Whether the context's cluster has a certificate authority, and yet is to be trusted without any."""
    cluster = _cluster(files, context)
    has_authority = any(cluster.get(f"certificate-authority{suffix}") for suffix in ("", "-data"))
    return has_authority and cluster.get("insecure-skip-tls-verify") is True


def credential_plugin(files: Sequence[str], context: str | None) -> str | None:
    """The program that the context's user has for credentials."""
    command = (_user(files, context).get("exec") or {}).get("command")
    return str(command) if command else None


def install_hint(files: Sequence[str], context: str | None) -> str:
    """How to get that program, in the words of who wrote the kubeconfig; empty if it does not say."""
    return " ".join(str((_user(files, context).get("exec") or {}).get("installHint") or "").split())


def old_provider(files: Sequence[str], context: str | None) -> str | None:
    """The context's provider of credentials, if it is one that kubectl and Helm have removed."""
    name = (_user(files, context).get("auth-provider") or {}).get("name")
    return str(name) if name and name != "oidc" else None


def token_file(files: Sequence[str], context: str | None) -> Path | None:
    """The file with the user's token, which wins over a token and may be replaced at any time."""
    name = str(_context(files, context).get("user"))
    for file in files:
        if user := _entry([file], "users", "user", name):
            path = user.get("tokenFile")
            return Path(file).parent / str(path) if path else None
    return None


def impersonation(files: Sequence[str], context: str | None) -> list[tuple[str, str]]:
    """The headers of requests that the context's user makes as somebody else (``as``), as kubectl sends them."""
    user = _user(files, context)
    headers = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or []]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{quote(str(key).lower(), safe='')}", value) for value in values or []]
    return [(name, str(value)) for name, value in headers if value]


def context_names(files: Sequence[str]) -> list[str]:
    """The contexts of all files, in their order."""
    items = [item for file in files for item in _read(Path(file)).get("contexts") or []]
    return list(dict.fromkeys(str(item["name"]) for item in items if isinstance(item, dict) and item.get("name")))


def _context(files: Sequence[str], context: str | None) -> dict[str, Any]:
    return _entry(files, "contexts", "context", str(context))


def _cluster(files: Sequence[str], context: str | None) -> dict[str, Any]:
    return _entry(files, "clusters", "cluster", str(_context(files, context).get("cluster")))


def _user(files: Sequence[str], context: str | None) -> dict[str, Any]:
    return _entry(files, "users", "user", str(_context(files, context).get("user")))


def _entry(files: Sequence[str], section: str, key: str, name: str) -> dict[str, Any]:
    """The first entry of that name, as kubectl merges files; empty if none has it."""
    for file in files:
        for item in _read(Path(file)).get(section) or []:
            if isinstance(item, dict) and item.get("name") == name and isinstance(item.get(key), dict):
                return dict(item[key])
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = _parsed(path.read_text())
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ClusterError(f"no cluster to talk to: the kubeconfig file {path} cannot be read: {error}") from error
    if found is None:
        return {}
    is_whole = isinstance(found, dict) and all(isinstance(found.get(name) or [], list) for name in _SECTIONS)
    if not is_whole:
        raise ClusterError(
            f"no cluster to talk to: {path} is not a kubeconfig, which maps clusters, contexts and users to lists; "
            "check --kubeconfig and KUBECONFIG, or have your cluster's tool write it again"
        )
    return dict(found)


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """Kept, because each question about a context reads all files. Not by libyaml, which deep nesting crashes."""
    return yaml.safe_load(text)
