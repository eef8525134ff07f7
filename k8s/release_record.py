"""A release as the labels of Helm's record tell of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

INSTALL_LABEL = "tspctl/install"
"""Label of Helm's record: the nonce of the process that installed the release, or is to install it again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """The newest revision of a release, from the labels of Helm's Secret."""

    name: str
    revision: int
    status: str
    """``deployed``, ``failed``, ``pending-install``, ``uninstalling``, ..."""
    secret: str
    nonce: str | None
    created: datetime | None
    resource_version: str | None = None
    """Of the Secret when it was read."""
    labels: Mapping[str, str] = field(repr=False, default_factory=dict)


def release_in(metadata: Mapping[str, Any]) -> Release | None:
    """From the labels that Helm puts on its records; None for an object that only looks like one."""
    labels = metadata.get("labels") or {}
    name, version = labels.get("name"), str(labels.get("version", ""))
    if not name or not version.isdigit() or metadata["name"] != f"sh.helm.release.v1.{name}.v{version}":
        return None
    created = metadata.get("creationTimestamp")
    return Release(
        name=name,
        revision=int(version),
        status=str(labels.get("status", "unknown")),
        secret=metadata["name"],
        nonce=labels.get(INSTALL_LABEL),
        created=datetime.fromisoformat(created) if created else None,
        resource_version=metadata.get("resourceVersion"),
        labels=labels,
    )
