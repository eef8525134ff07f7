"""The contents of the JSON files in a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tsp.config.store import StoreConfig
from tsp.run.processes import ProcessId
from tsp.run.rank_group import RankProcess

StopState = Literal["cancelled", "suspended"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How the supervisor starts the ranks of a run."""

    name: str
    store: StoreConfig
    gpus: int
    command: tuple[str, ...]
    """Program of one rank."""
    devices: tuple[str, ...]
    """CUDA device of each rank; empty on a machine without GPUs."""
    max_attempts: int
    created: str
    """ISO time."""
    owner: str = ""
    """What this machine is called as the one that trains the run; empty in records of older versions."""
    first_backoff_sec: float = 1.0
    """Pause before the second attempt; doubled before each further one."""
    grace_sec: float = 120.0
    """From SIGTERM to SIGKILL, unless a stop request says otherwise: time to save state and drain uploads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervised:
    """What the supervisor recorded last."""

    pid: int
    started: str
    phase: Literal["submitting", "starting", "running", "restarting", "ended"] = "starting"
    """While ``submitting`` the process is the one that submits or resumes the run."""
    attempt: int = 0
    ranks: tuple[RankProcess, ...] = ()
    reason: str | None = None

    @property
    def process(self) -> ProcessId:
        """The supervisor's process, safe against a reused pid."""
        return ProcessId(self.pid, self.started)


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequest:
    """What ``cancel`` or ``suspend`` asked for."""

    state: StopState
    grace_sec: float
