"""Backends by name: the only module that imports them."""

from __future__ import annotations

from typing import assert_never

from cli.backends.base import Backend
from cli.options.backend_names import BackendName
from cli.options.settings import Settings
from cli.stores import Stores
from tsp.config.jobs import JOBS


def open_backend(settings: Settings, stores: Stores, name: BackendName | None = None) -> Backend:
    """The backend of that name; None: that of the settings.

    Args: stores, of the command, which it uses as well.
    """
    match name or settings.backend:
        case "local":
            from cli.backends.local.backend import LocalBackend

            return LocalBackend(stores)
        case "kubernetes":
            from cli.backends.cluster.backend import ClusterBackend

            return ClusterBackend(settings, stores)
        case other:
            assert_never(other)


def open_backends(settings: Settings, stores: Stores) -> tuple[Backend, ...]:
    """Backends that may have a run: this machine, then that of the settings."""
    local = open_backend(settings, stores, "local")
    return (local,) if settings.backend == "local" else (local, open_backend(settings, stores))


def open_job_backend(settings: Settings, stores: Stores, kind: str, *, on_cluster: bool) -> Backend:
    """The backend of an auxiliary job: the cluster with ``on_cluster``, else its kind's default."""
    if on_cluster:
        return open_backend(settings, stores, "kubernetes")
    return open_backend(settings, stores, "local" if JOBS[kind].runs_in_place else settings.backend)
