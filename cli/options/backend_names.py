"""The backends' names, and the facts that options need about a backend without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackendName = Literal["kubernetes", "local"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendTraits:
    """What differs between backends before a command opens one."""

    takes_cluster_options: bool
    """Whether --namespace, --context and --kubeconfig mean anything to it."""
    has_default_store: bool
    """Whether runs without --store are stored in a folder of this machine."""


BACKENDS: dict[BackendName, BackendTraits] = {
    "kubernetes": BackendTraits(takes_cluster_options=True, has_default_store=False),
    "local": BackendTraits(takes_cluster_options=False, has_default_store=True),
}
