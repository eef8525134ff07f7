"""Decides which process may take over a run, without file locks.

Problem: two simultaneous ``resume`` would start two supervisors, whose ranks write to one run, and some file systems
refuse locks or grant them to every process.
Idea: a symbolic link is created atomically, and its target names the process (as in the lock files of Emacs and
Firefox).
Invariants: of several processes exactly one continues; the claim of a killed process is taken over by exactly one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cli.backends.local.run_folder import LocalRun
from tsp.errors import ConfigError
from tsp.run.processes import ProcessId, identify, is_alive

CLAIM = "claim"


@contextmanager
def claimed(local: LocalRun) -> Iterator[None]:
    """Be the only process that takes over or deletes a run while the block lasts.

    Raises: ConfigError while another one does.
    """
    path, me = local.folder / CLAIM, identify(os.getpid())
    target = "" if me is None else f"{me.pid} {me.started}"
    while True:
        try:
            os.symlink(target, path)
            break
        except FileExistsError:
            _remove_if_stale(local)
        except OSError:
            # No links on this file system, or the folder was deleted: the checks before are all there is.
            break
    try:
        yield
    finally:
        with suppress(OSError):
            if os.readlink(path) == target:
                path.unlink()


def _remove_if_stale(local: LocalRun) -> None:
    path, aside = local.folder / CLAIM, local.folder / f"{CLAIM}.{uuid.uuid4().hex}"
    if not path.is_symlink() and path.exists():
        raise ConfigError(f"{path} was not written by tspctl: remove it")
    with suppress(FileNotFoundError):
        holder = os.readlink(path)
        pid, _, started = holder.partition(" ")
        if pid.isdigit() and is_alive(ProcessId(int(pid), started)):
            raise ConfigError(f"another tspctl (process {pid}) is changing run {local.name}: wait for it")
        # Renamed before it is removed, so that of several that see it one takes it away.
        path.rename(aside)
        if os.readlink(aside) != holder:
            aside.rename(path)
            return
        aside.unlink()
