"""Backends by name: the only module that imports them."""

from __future__ import annotations

from typing import assert_never

from cli.backends.base import Backend
from cli.options.backend_names import BackendName
from cli.options.settings import Settings
from tsp.config.jobs import JOBS


def open_backend(settings: Settings, name: BackendName | None = None) -> Backend:
    """The backend of that name; None: that of the settings."""
    match name or settings.backend:
        case "local":
            from cli.backends.local.backend import LocalBackend

            return LocalBackend()
        case "kubernetes":
            from cli.backends.cluster.backend import ClusterBackend

            return ClusterBackend(settings)
        case other:
            assert_never(other)


def open_backends(settings: Settings) -> tuple[Backend, ...]:
    """Backends that may have a run: this machine, then that of the settings."""
    local = open_backend(settings, "local")
    return (local,) if settings.backend == "local" else (local, open_backend(settings))


def open_job_backend(settings: Settings, kind: str, *, on_cluster: bool) -> Backend:
    """The backend of an auxiliary job: the cluster with ``on_cluster``, else its kind's default."""
    if on_cluster:
        return open_backend(settings, "kubernetes")
    return open_backend(settings, "local" if JOBS[kind].runs_in_place else settings.backend)
