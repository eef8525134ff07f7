"""What this machine remembers of its runs: ``$XDG_STATE_HOME/tspctl/runs/<run>/``.

``launch.json`` how to start it · ``config.json`` its configuration · ``supervisor.json`` who runs now ·
``stop.json`` what was asked of it · ``outcome.json`` how it ended · ``console/attempt-K/rank-R.log`` output of ranks.
Epochs and results are in the store, never here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from cli.backends.local.processes import ProcessId
from tsp.config.codec import from_dict
from tsp.config.run import StoreConfig
from tsp.errors import ConfigError
from tsp.run.records import Outcome
from tsp.store.atomic import write_atomically

T = TypeVar("T")
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
    first_backoff_sec: float = 1.0
    """Pause before the second attempt; doubled for each further one."""
    grace_sec: float = 120.0
    """From SIGTERM to SIGKILL, unless asked otherwise: time to save state and drain uploads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankProcess:
    """A rank of the present attempt."""

    rank: int
    pid: int
    started: str
    device: str

    @property
    def process(self) -> ProcessId:
        """Its process."""
        return ProcessId(self.pid, self.started)


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervised:
    """What the supervisor wrote last."""

    pid: int
    started: str
    phase: Literal["starting", "running", "restarting", "ended"] = "starting"
    attempt: int = 0
    ranks: tuple[RankProcess, ...] = ()
    reason: str | None = None

    @property
    def process(self) -> ProcessId:
        """The supervisor's own process."""
        return ProcessId(self.pid, self.started)


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequest:
    """What ``cancel`` or ``suspend`` asked for."""

    state: StopState
    grace_sec: float


class LocalRun:
    """The folder of one run; a missing file reads as None."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    @property
    def config_path(self) -> Path:
        """The run's configuration, which the ranks read."""
        return self.folder / "config.json"

    @property
    def console(self) -> Path:
        """What the ranks wrote, under ``attempt-K/rank-R.log``."""
        return self.folder / "console"

    def exists(self) -> bool:
        """Whether a run of this name was ever started here."""
        return self.folder.is_dir()

    def reserve(self) -> None:
        """Make the folder; of two that try, one wins.

        Raises: ConfigError if it exists.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder.mkdir()
        except FileExistsError as error:
            raise ConfigError(
                f"a run {self.name!r} is known on this machine already: choose another --name, "
                f"go on with it ('tspctl resume {self.name}') or remove it ('tspctl delete {self.name}')"
            ) from error

    def remove(self) -> None:
        """Forget the run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def launch(self) -> Launch | None:
        """How it was started."""
        return self._read(Launch, "launch.json")

    def supervised(self) -> Supervised | None:
        """Who runs it, as last written; the processes may be gone."""
        return self._read(Supervised, "supervisor.json")

    def outcome(self) -> Outcome | None:
        """How it ended."""
        return self._read(Outcome, "outcome.json")

    def stop_request(self) -> StopRequest | None:
        """What was asked of it."""
        return self._read(StopRequest, "stop.json")

    def write_launch(self, launch: Launch, config_json: str) -> None:
        """Remember how to start it."""
        write_atomically(self.config_path, config_json)
        self._write("launch.json", asdict(launch))

    def write_supervised(self, supervised: Supervised) -> None:
        """Remember who runs it."""
        self._write("supervisor.json", asdict(supervised))

    def write_outcome(self, outcome: Outcome) -> None:
        """Remember how it ended."""
        self._write("outcome.json", asdict(outcome))

    def ask_to_stop(self, request: StopRequest) -> None:
        """Tell the supervisor, before it is signalled, what the end shall be called."""
        self._write("stop.json", asdict(request))

    def forget_end(self) -> None:
        """Make it ready to run again."""
        for name in ("stop.json", "outcome.json"):
            (self.folder / name).unlink(missing_ok=True)

    def _read(self, cls: type[T], name: str) -> T | None:
        try:
            raw = json.loads((self.folder / name).read_text())
        except FileNotFoundError:
            return None
        return from_dict(cls, raw, where=str(self.folder / name))

    def _write(self, name: str, value: dict[str, Any]) -> None:
        write_atomically(self.folder / name, json.dumps(value, indent=2) + "\n")


def state_home() -> Path:
    """``$XDG_STATE_HOME/tspctl/runs``, by default under ``~/.local/state``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tspctl" / "runs"


def local_run(name: str) -> LocalRun:
    """The run of that name on this machine, existing or not."""
    return LocalRun(state_home() / name)


def known_runs() -> Iterator[LocalRun]:
    """Every run started on this machine, newest first."""
    folders = [path for path in state_home().glob("*/launch.json") if path.is_file()]
    for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
        yield LocalRun(path.parent)
