"""Which process may install a release again, and Helm's record of it meanwhile.

Installing again takes as long as the old pods take to go, and two users may do it at once. The record stays until there
is a new one, so that a process that is killed loses nothing; who changed its label last goes on, the others give up.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from k8s.answers import NotFoundError
from k8s.client import Cluster
from k8s.release_record import INSTALL_LABEL, Release
from tsp.errors import ClusterError, ConfigError

logger = logging.getLogger(__name__)


class Records(Protocol):
    """What claiming a release needs of ``Releases``."""

    cluster: Cluster

    def find(self, name: str) -> Release | None:
        """The newest record of a release."""
        ...

    def path_of(self, release: Release) -> str:
        """Where it is."""
        ...


class OvertakenError(ConfigError):
    """Another process resumes or removes the release."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process has said in a record."""

    name: str
    nonce: str
    record: Mapping[str, Any] = field(repr=False)


def claim(records: Records, release: Release) -> Claim:
    """Say in Helm's record that this process is to install a release again.

    Raises: OvertakenError if the record was changed since ``release`` was read: another process was faster.
    """
    path, nonce = records.path_of(release), secrets.token_hex(8)
    try:
        record = records.cluster.get(path)
        record["metadata"]["labels"][INSTALL_LABEL] = nonce
        record["metadata"]["resourceVersion"] = release.resource_version
        records.cluster.replace(path, record)
    except NotFoundError:
        raise _overtaken(release.name) from None
    except ClusterError as error:
        if "HTTP 409" not in str(error):
            raise
        # A write that is repeated, since its answer was lost, finds itself.
        held(records, Claim(release.name, nonce, record))
    return Claim(release.name, nonce, record)


def held(records: Records, own: Claim) -> Release:
    """The release that was claimed. Raises: OvertakenError if another process has claimed it since, or removed it."""
    found = records.find(own.name)
    if found is None or found.nonce != own.nonce:
        raise _overtaken(own.name)
    return found


def put_back(records: Records, own: Claim) -> None:
    """Create the record of a release again if it was removed: without its objects the release is one that lost its
    job, and can be resumed.
    """
    metadata = {key: own.record["metadata"].get(key) for key in ("name", "labels")}
    try:
        records.cluster.create(records.cluster.namespaced("v1", "secrets"), {**own.record, "metadata": metadata})
    except ClusterError as error:
        if "HTTP 409" not in str(error):
            logger.warning("Helm's record of %s could not be put back: %s", own.name, error)


def _overtaken(name: str) -> OvertakenError:
    return OvertakenError(f"another command resumes or removes {name} at this moment: see 'tspctl status {name}'")
