"""Backends by name: the only place that knows all of them."""

from __future__ import annotations

from cli.backends.base import Backend
from cli.options.settings import Settings


def open_backend(settings: Settings, name: str | None = None) -> Backend:
    """The backend of that name; None: the settings' own."""
    if (name or settings.backend) == "local":
        from cli.backends.local.backend import LocalBackend

        return LocalBackend()
    from cli.backends.cluster.backend import ClusterBackend

    return ClusterBackend(settings)
