"""A run that was found: by its name, or by the path or URI of its folder."""

from __future__ import annotations

from dataclasses import dataclass

from cli.backends.base import Backend, RunStatus
from tsp.errors import ConfigError
from tsp.run.stored_run import StoredRun


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run: what its store and what its backend know."""

    run: StoredRun
    backend: Backend | None
    """None for a folder, which belongs to no backend."""
    status: RunStatus | None
    """As the backend saw it when it was found; None if the backend does not know it."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def is_job(self) -> bool:
        """Whether it is an auxiliary job, of which no store knows."""
        return self.status is not None and self.status.kind != "train"

    def require_backend(self) -> Backend:
        """The backend that can stop and start it.

        Raises: ConfigError for a run that was named by its folder.
        """
        if self.backend is None:
            raise ConfigError(f"{self.run.name} was given as a folder: give the run's name and --store instead")
        return self.backend
