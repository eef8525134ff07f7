"""Locks that may not exist, and whose file an unfinished one is."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tsp.store import locks, owner
from tsp.store.locks import Lock, lock_file
from tsp.store.owner import ABANDONED_AFTER_SEC, forget_owner, is_abandoned, new_owner


@pytest.mark.parametrize(
    ("held", "asked", "found"),
    [
        (None, False, Lock.HELD),
        (None, True, Lock.HELD),
        (False, False, Lock.TAKEN),
        (False, True, Lock.TAKEN),
        (True, False, Lock.TAKEN),
        (True, True, Lock.HELD),
    ],
)
def test_readers_share_a_lock_and_a_writer_has_it_alone(tmp_path: Path, held, asked, found) -> None:
    with open(tmp_path / "a", "wb") as first, open(tmp_path / "a", "rb") as second:
        if held is not None:
            assert lock_file(first, shared=held, wait=False) is Lock.HELD
        assert lock_file(second, shared=asked, wait=False) is found


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (errno.EACCES, Lock.TAKEN),
        (errno.EAGAIN, Lock.TAKEN),
        (errno.ENOLCK, Lock.UNSUPPORTED),
        (errno.EOPNOTSUPP, Lock.UNSUPPORTED),
        (errno.ENOSYS, Lock.UNSUPPORTED),
        (errno.EIO, Lock.UNSUPPORTED),
        (errno.EBADF, None),
        (errno.EINTR, None),
    ],
)
def test_a_file_system_without_locks_is_told_from_a_lock_that_is_taken(monkeypatch, number, found) -> None:
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    if found is None:
        with pytest.raises(OSError, match=os.strerror(number)):
            lock_file(3)
    else:
        assert lock_file(3) is found


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As file systems that grant a lock to everybody."""
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)


@pytest.mark.parametrize(("age_sec", "is_left"), [(0, False), (ABANDONED_AFTER_SEC - 60, False), (900 + 60, True)])
def test_what_another_machine_has_not_touched_for_a_quarter_of_an_hour_is_abandoned(
    without_locks, tmp_path: Path, age_sec, is_left
) -> None:
    path = tmp_path / ".a.01234567-1-89abcdef.part"
    path.write_bytes(b"x")
    os.utime(path, (time.time() - age_sec,) * 2)
    assert is_abandoned(path) is is_left
    assert os.listdir(tmp_path) == [path.name]


def test_what_this_process_writes_is_abandoned_once_it_says_so(without_locks, tmp_path: Path) -> None:
    mine = new_owner()
    path = tmp_path / f".a.{mine}.part"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    assert not is_abandoned(path)
    forget_owner(mine)
    assert is_abandoned(path)


def test_what_another_process_of_this_machine_writes_is_abandoned_once_it_has_ended(without_locks, tmp_path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        path = tmp_path / f".a.{owner._machine()}-{process.pid}-89abcdef.part"
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
        assert not is_abandoned(path)
        process.kill()
    assert is_abandoned(path)


def test_a_process_that_belongs_to_another_user_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_):
        raise PermissionError

    monkeypatch.setattr(owner.os, "kill", kill)
    assert owner._is_running(1)


def test_a_lock_that_is_refused_proves_a_writer_whatever_the_age(tmp_path: Path) -> None:
    path = tmp_path / ".a.01234567-1-89abcdef.part"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    with open(path, "rb") as file:
        lock_file(file)
        assert not is_abandoned(path)
    assert is_abandoned(path)


def test_a_file_that_is_gone_is_not_abandoned(tmp_path: Path) -> None:
    assert not is_abandoned(tmp_path / ".a.01234567-1-89abcdef.part")
