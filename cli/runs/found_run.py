"""A run as found by its name, or by the path or URI of its folder."""

from __future__ import annotations

from dataclasses import dataclass

from cli.backends.base import Backend
from cli.backends.run_status import RunStatus
from tsp.errors import ConfigError
from tsp.run.status import ENDED
from tsp.run.stored_run import StoredRun


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run in its store and in its backend."""

    run: StoredRun
    backend: Backend | None
    """None for a folder, which belongs to no backend."""
    status: RunStatus | None
    """From the backend, when the run was found; None if the backend does not know it."""

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name

    @property
    def is_job(self) -> bool:
        """Whether it is an auxiliary job, which has no files in a store."""
        return self.status is not None and self.status.kind != "train"

    def has_lost_its_files(self) -> bool:
        """Whether it has trained, according to its backend, but has no files in the store. Raises: StoreError."""
        status = self.status
        if self.is_job or status is None or status.state not in ENDED:
            return False
        has_trained = status.state == "succeeded" or status.attempt is not None
        return has_trained and not self.run.exists()

    @property
    def without_files(self) -> str:
        """The message for missing files."""
        return (
            f"the run's files are missing at {self.run.address()}: they were moved or deleted, or the disk is not "
            "mounted"
        )

    def require_backend(self) -> Backend:
        """The backend that can change it.

        Raises: ConfigError if the run was given as a folder.
        """
        if self.backend is None:
            raise ConfigError(f"{self.run.name} was given as a folder: give the run's name, and --store if needed")
        return self.backend
