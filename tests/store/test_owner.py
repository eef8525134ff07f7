"""Whose an unfinished file is."""

import fcntl
import os
from pathlib import Path

import pytest

from tsp.store import owner, scratch
from tsp.store.owner import forget_owner, is_abandoned, new_owner

ELSEWHERE = "0badcafe-{pid}-12345678"


def file_of(folder: Path, name: str) -> Path:
    path = folder / f".a.{name}.part"
    path.touch()
    return path


def test_a_file_of_this_process_is_in_use_until_it_says_otherwise(tmp_path: Path) -> None:
    mine = new_owner()
    path = file_of(tmp_path, mine)
    assert not is_abandoned(path)
    forget_owner(mine)
    assert is_abandoned(path)


@pytest.mark.parametrize(("error", "abandoned"), [(None, False), (PermissionError, False), (ProcessLookupError, True)])
def test_a_file_of_another_process_of_this_machine_is_in_use_while_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None, abandoned: bool
) -> None:
    machine, _, number = new_owner().split("-")
    asked: list[tuple[int, int]] = []

    def kill(pid: int, signal: int) -> None:
        asked.append((pid, signal))
        if error is not None:
            raise error

    monkeypatch.setattr(owner.os, "kill", kill)
    assert is_abandoned(file_of(tmp_path, f"{machine}-4194304-{number}")) is abandoned
    assert asked == [(4194304, 0)]


@pytest.mark.parametrize("is_our_number", [True, False])
@pytest.mark.parametrize(("age_sec", "abandoned"), [(0, False), (900, False), (901, True), (-50, False)])
def test_a_file_of_another_machine_is_abandoned_a_quarter_of_an_hour_after_its_last_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_our_number: bool, age_sec: int, abandoned: bool
) -> None:
    """By the clock of the file system: machines differ."""
    path = file_of(tmp_path, ELSEWHERE.format(pid=os.getpid() if is_our_number else 4194304))
    os.utime(path, (1_000_000, 1_000_000))
    monkeypatch.setattr(owner, "_now_there", lambda folder: 1_000_000 + age_sec)
    assert is_abandoned(path) is abandoned


def test_the_clock_of_a_folder_is_read_by_a_file_that_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert 0 <= owner._now_there(tmp_path) - (tmp_path / "a").stat().st_mtime < 600
    assert os.listdir(tmp_path) == ["a"]
    assert owner._now_there(tmp_path / "none") > 1_700_000_000


def test_a_locked_file_is_in_use_whatever_its_name_and_age_say(tmp_path: Path) -> None:
    path = file_of(tmp_path, ELSEWHERE.format(pid=1))
    os.utime(path, (0, 0))
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not is_abandoned(path)
    assert is_abandoned(path)
    path.unlink()
    assert not is_abandoned(path), "what is gone needs no sweeping"


def test_a_file_may_be_named_by_its_folder(tmp_path: Path) -> None:
    mine = new_owner()
    (tmp_path / mine).mkdir()
    lock = tmp_path / mine / ".lock"
    lock.touch()
    assert not is_abandoned(lock)
    forget_owner(mine)
    assert is_abandoned(lock)


def test_scratch_is_private_and_leaves_nothing_but_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    with scratch.temporary_folder() as folder, scratch.temporary_folder() as other:
        base = folder.parent
        assert base.name == f"tspctl-{os.getuid()}"
        assert base.stat().st_mode & 0o777 == 0o700
        assert folder != other
        assert {path.name for path in base.iterdir()} == {folder.name, other.name, ".lock"}
    assert [path.name for path in base.iterdir()] == [".lock"]
