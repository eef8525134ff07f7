"""Folders of this machine's runs: ``$XDG_STATE_HOME/tspctl/runs/<run>/``.

``launch.json`` how to start it · ``config.json`` its configuration · ``supervisor.json`` the process in charge of it
(at first the one that submits it) · ``stop.json`` a stop request · ``outcome.json`` how it ended · ``lock`` held by its
supervisor · ``console/attempt-K/rank-R.log`` output of ranks. Epochs and results are in the store, never here.

Problem: after a full disk, or a write by another user or version of tspctl, these files may contain anything; processes
can be killed between any two writes, and some file systems have no working locks.
Idea: a run exists as soon as its folder does; each file is written atomically and read by one function (``_read``),
which turns every problem into one kind of error; a supervisor is recognised by its process as well as by its lock.
Invariants: a damaged file hides neither its run nor any other; of two processes that create a run, one wins
(``mkdir``).
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from cli.backends.local.records import Launch, StopRequest, Supervised
from cli.options.user_folders import user_folder
from tsp.config.codec import from_dict, json_text
from tsp.config.run import RunConfig
from tsp.errors import ConfigError, TspError
from tsp.run.processes import identify, is_alive
from tsp.run.rank_group import RankProcess
from tsp.run.records import Outcome
from tsp.store.atomic import write_atomically
from tsp.store.locks import Lock, lock_file

T = TypeVar("T")

_MOST_NAME_BYTES = 255
"""Of a folder, on every usual file system; asking for a longer one is an error."""


class DamagedRunError(ConfigError):
    """A file of a run's folder exists, but cannot be read or understood."""


class LocalRun:
    """The folder of one run; a missing file reads as None, a damaged one raises DamagedRunError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    @property
    def config_path(self) -> Path:
        """The configuration that the ranks read."""
        return self.folder / "config.json"

    @property
    def console(self) -> Path:
        """Output of the ranks: ``attempt-K/rank-R.log``."""
        return self.folder / "console"

    def exists(self) -> bool:
        """Whether this machine has a run of this name."""
        return self.folder.is_dir()

    def reserve(self) -> None:
        """Create the folder, with this process as the one that submits the run; of two that try, one wins.

        Raises: ConfigError if it exists or cannot be created.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir()
        except FileExistsError as error:
            raise ConfigError(
                f"this machine already has a run {self.name!r}: choose another --name; see 'tspctl status {self.name}'"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"cannot keep the state of runs in {self.folder.parent} ({error.strerror}): set XDG_STATE_HOME to "
                "a writable folder"
            ) from error
        self.note_submitter()

    def note_submitter(self, ranks: tuple[RankProcess, ...] = ()) -> None:
        """Record this process as the one in charge until the supervisor takes over.

        Args: ranks, of an attempt whose supervisor is gone: the next supervisor stops them.
        """
        me = identify(os.getpid())
        if me is not None:
            self.write_supervised(Supervised(pid=me.pid, started=me.started, phase="submitting", ranks=ranks))

    def remove(self) -> None:
        """Remove the folder.

        Raises: ConfigError if something in it cannot be removed.
        """
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"cannot remove {error.filename or self.folder}: {error.strerror}") from error

    def is_supervised(self) -> bool:
        """Whether a process is in charge of the run, by its record or its lock."""
        with suppress(DamagedRunError):
            supervised = self.supervised()
            if supervised is not None and is_alive(supervised.process):
                return True
        with suppress(OSError), (self.folder / "lock").open("rb") as lock:
            return lock_file(lock, wait=False) is Lock.TAKEN
        return False

    def launch(self) -> Launch | None:
        """How it was started; None if it never was."""
        return self._read(Launch, "launch.json")

    def config(self) -> RunConfig | None:
        """The configuration it was started with."""
        return self._read(RunConfig, self.config_path.name)

    def supervised(self) -> Supervised | None:
        """The process in charge, as last recorded; it may be gone."""
        return self._read(Supervised, "supervisor.json")

    def outcome(self) -> Outcome | None:
        """How it ended; None if it has not."""
        return self._read(Outcome, "outcome.json")

    def has_outcome(self) -> bool:
        """Whether an outcome is recorded, readable or not."""
        return (self.folder / "outcome.json").exists()

    def stop_request(self) -> StopRequest | None:
        """The stop request, if there is one."""
        return self._read(StopRequest, "stop.json")

    def write_launch(self, launch: Launch, config_json: str) -> None:
        """Record how to start it."""
        write_atomically(self.config_path, config_json)
        self._write("launch.json", asdict(launch))

    def write_supervised(self, supervised: Supervised) -> None:
        """Record the process in charge."""
        self._write("supervisor.json", asdict(supervised))

    def write_outcome(self, outcome: Outcome) -> None:
        """Record how it ended."""
        self._write("outcome.json", asdict(outcome))

    def ask_to_stop(self, request: StopRequest) -> None:
        """Record a stop request, before the supervisor is signalled."""
        self._write("stop.json", asdict(request))

    def forget_end(self) -> None:
        """Remove outcome and stop request, so that it can run again."""
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
                f"{path} cannot be read ({what}): 'tspctl delete {self.name} --keep-store' removes the run from this "
                f"machine and keeps its results in the store"
            ) from error

    def _write(self, name: str, value: dict[str, Any]) -> None:
        write_atomically(self.folder / name, json_text(value))


def state_home() -> Path:
    """``$XDG_STATE_HOME/tspctl/runs``, by default under ``~/.local/state``.

    Raises: ConfigError if there is no home folder.
    """
    return user_folder("STATE") / "runs"


def local_run(name: str) -> LocalRun:
    """The run of that name on this machine; it need not exist."""
    return LocalRun(state_home() / name)


def known_run(name: str) -> LocalRun | None:
    """The run of that name, if this machine has one."""
    if not name or "/" in name or name in (".", "..") or len(os.fsencode(name)) > _MOST_NAME_BYTES:
        return None
    try:
        local = local_run(name)
    except ConfigError:
        # No home folder, no runs.
        return None
    return local if local.exists() else None


def known_runs() -> list[LocalRun]:
    """All runs of this machine, newest first.

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
    """When the run was submitted or resumed; for an incomplete one, when its folder was changed."""
    try:
        return os.stat(f"{entry.path}/launch.json").st_mtime_ns
    except OSError:
        with suppress(OSError):
            return entry.stat().st_mtime_ns
    return 0
