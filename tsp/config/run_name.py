"""Names of runs: each is also a Helm release, a Kubernetes object and a folder."""

from __future__ import annotations

import re

from tsp.errors import ConfigError

RUN_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MAX_RUN_NAME_CHARS = 44
"""Leaves room for ``-worker-<n>`` within 63 characters and for Helm's 53 characters of a release name."""


def check_run_name(name: str) -> None:
    """Refuse a name that cannot be a Helm release, a Kubernetes object and a folder.

    Raises: ConfigError, saying what is wrong with it.
    """
    if not RUN_NAME.fullmatch(name):
        raise ConfigError(
            f"run name {name!r} must start with a letter and contain only lower-case letters, digits and inner dashes"
        )
    if len(name) > MAX_RUN_NAME_CHARS:
        raise ConfigError(f"run name {name!r} has {len(name)} characters; at most {MAX_RUN_NAME_CHARS} are allowed")
