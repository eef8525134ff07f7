"""The owner of an unfinished file, and whether its process is gone; taken from the file's name, since locks are not
reliable."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import time
import uuid
from pathlib import Path

from tsp.store.locks import Lock, lock_file

ABANDONED_AFTER_SEC = 900.0
"""A file that another machine has not changed for this long, by the clock of the file system, is abandoned."""
_OWNER = re.compile(r"([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
_mine: set[str] = set()


def new_owner() -> str:
    """A part of a name, unique to this process: machine, process, and a random number."""
    owner = f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    _mine.add(owner)
    return owner


def forget_owner(owner: str) -> None:
    """Nothing of that name is being written any more."""
    _mine.discard(owner)


def names_owner(path: Path) -> bool:
    """Whether the name tells whose file it is, as ours do."""
    return _OWNER.search(path.name) is not None


def is_abandoned(path: Path) -> bool:
    """Whether no process writes this file any more. In doubt, one does. A refused lock proves a writer; a granted lock
    proves nothing on file systems that grant all.
    """
    with contextlib.suppress(OSError):
        with open(path, "rb") as file:
            if lock_file(file, wait=False) is Lock.TAKEN:
                return False
        match = _OWNER.search(path.name) or _OWNER.search(path.parent.name)
        if match is not None and match[1] == _machine():
            return match[0] not in _mine if int(match[2]) == os.getpid() else not _is_running(int(match[2]))
        return _now_there(path.parent) - path.stat().st_mtime > ABANDONED_AFTER_SEC
    return False


def _machine() -> str:
    # A pod's host name is its own, also where several share a node and its process numbers repeat.
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now_there(folder: Path) -> float:
    """The time by the clock that stamps the files of a folder, which may be another machine's."""
    probe = folder / f".tspctl-clock-{uuid.uuid4().hex[:8]}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
