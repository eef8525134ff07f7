"""What this machine remembers of its runs: ``$XDG_STATE_HOME/tspctl/runs/<run>/``.

``launch.json`` how to start it · ``config.json`` its configuration · ``supervisor.json`` who runs it now (at first:
who submits it) · ``stop.json`` what was asked of it · ``outcome.json`` how it ended · ``lock`` held by its supervisor ·
``console/attempt-K/rank-R.log`` output of ranks. Epochs and results are in the store, never here.

A full disk, another user or another version of tspctl can leave anything in these files, so each is read at one
boundary (``_read``), which turns whatever is wrong with it into one error. A run is known as soon as its folder exists.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from cli.backends.local.processes import ProcessId, identify, is_alive
from cli.options.user_folders import user_folder
from tsp.config.codec import from_dict
from tsp.config.run import RunConfig, StoreConfig
from tsp.errors import ConfigError, TspError
from tsp.run.records import Outcome
from tsp.store.atomic import write_atomically
from tsp.store.locks import Lock, lock_file

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
    phase: Literal["submitting", "starting", "running", "restarting", "ended"] = "starting"
    """While ``submitting`` the process is the one that submits or resumes the run."""
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


class DamagedRunError(ConfigError):
    """A file of a run's folder is there, but cannot be read or understood."""


class LocalRun:
    """The folder of one run; a missing file reads as None, a damaged one raises DamagedRunError."""

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
        """Make the folder, and note this process as the one that submits the run; of two that try, one wins.

        Raises: ConfigError if it exists, or cannot be made.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir()
        except FileExistsError as error:
            raise ConfigError(
                f"a run {self.name!r} is known on this machine already: choose another --name; "
                f"'tspctl status {self.name}' shows how it is doing"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"cannot keep the state of runs in {self.folder.parent} ({error.strerror}): "
                f"set XDG_STATE_HOME to a folder that can be written"
            ) from error
        self.note_submitter()

    def note_submitter(self, ranks: tuple[RankProcess, ...] = ()) -> None:
        """Note this process as the one that looks after the run until its supervisor does.

        Args: ranks, of an attempt whose supervisor is gone: the next supervisor ends them.
        """
        me = identify(os.getpid())
        if me is not None:
            self.write_supervised(Supervised(pid=me.pid, started=me.started, phase="submitting", ranks=ranks))

    def remove(self) -> None:
        """Forget the run.

        Raises: ConfigError if something of it cannot be removed.
        """
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"cannot remove {error.filename or self.folder}: {error.strerror}") from error

    def is_supervised(self) -> bool:
        """Whether a process looks after the run now, by its lock or by what it wrote down."""
        with suppress(DamagedRunError):
            supervised = self.supervised()
            if supervised is not None and is_alive(supervised.process):
                return True
        with suppress(OSError), (self.folder / "lock").open("rb") as lock:
            return lock_file(lock, wait=False) is Lock.TAKEN
        return False

    def launch(self) -> Launch | None:
        """How it was started."""
        return self._read(Launch, "launch.json")

    def config(self) -> RunConfig | None:
        """The configuration it was started with."""
        return self._read(RunConfig, self.config_path.name)

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
        path = self.folder / name
        try:
            return from_dict(cls, json.loads(path.read_bytes()), where=name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError, TspError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            raise DamagedRunError(
                f"{path} cannot be read ({what}): remove what this machine knows of the run with "
                f"'tspctl delete {self.name} --keep-store'; its results are in its store"
            ) from error

    def _write(self, name: str, value: dict[str, Any]) -> None:
        write_atomically(self.folder / name, json.dumps(value, indent=2) + "\n")


def state_home() -> Path:
    """``$XDG_STATE_HOME/tspctl/runs``, by default under ``~/.local/state``.

    Raises: ConfigError where there is no home folder.
    """
    return user_folder("STATE") / "runs"


def local_run(name: str) -> LocalRun:
    """The run of that name on this machine, existing or not."""
    return LocalRun(state_home() / name)


def known_run(name: str) -> LocalRun | None:
    """The run of that name, if one was ever started here."""
    if not name or "/" in name or name in (".", ".."):
        return None
    try:
        local = local_run(name)
    except ConfigError:
        # Without a home folder no run was.
        return None
    return local if local.exists() else None


def known_runs() -> list[LocalRun]:
    """Every run started on this machine, newest first.

    Raises: ConfigError if the folder of all runs cannot be read.
    """
    try:
        home = state_home()
    except ConfigError:
        return []
    try:
        with os.scandir(home) as entries:
            found = [(_submitted_ns(entry), entry.path) for entry in entries if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"cannot read {home}: {error.strerror}") from error
    return [LocalRun(Path(path)) for _, path in sorted(found, reverse=True)]


def _submitted_ns(entry: os.DirEntry[str]) -> int:
    """When the run was submitted or resumed; of one that is not whole, when its folder was changed."""
    try:
        return os.stat(f"{entry.path}/launch.json").st_mtime_ns
    except OSError:
        with suppress(OSError):
            return entry.stat().st_mtime_ns
    return 0
