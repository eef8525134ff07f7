"""Commands of one machine that write to one address take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tsp.store.turns import in_turn


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        (["out/a.h5"], ["out/a.h5"], True),
        (["out/a.h5"], ["out/../out/a.h5"], True),
        (["out/"], ["out"], True),
        (["s3://bucket/set"], ["s3://bucket/set/"], True),
        (["a.csv", "a.json"], ["b.csv", "a.json"], True),
        (["out/a.h5"], ["out/b.h5"], False),
        (["s3://bucket/set"], ["s3://other/set"], False),
        ([], [], False),
    ],
)
def test_who_writes_to_the_same_address_waits_and_says_so(first: list[str], second: list[str], waits: bool) -> None:
    waiting, done = threading.Event(), threading.Event()

    def write() -> None:
        with in_turn(second, lambda _: waiting.set()):
            done.set()

    with in_turn(first, lambda _: pytest.fail("nobody else writes")):
        thread = threading.Thread(target=write)
        thread.start()
        assert (waiting if waits else done).wait(600)
        assert done.is_set() is not waits
    thread.join(20)
    assert done.is_set()


def test_an_address_is_taken_until_the_process_that_writes_has_ended_too(tmp_path: Path) -> None:
    told: list[str] = []
    with in_turn(["a.h5"], told.append) as locks:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=locks)
    assert process.stdin is not None
    threading.Timer(0.5, process.stdin.close).start()
    with in_turn(["a.h5"], told.append):
        assert told == ["a.h5"]
    process.wait()


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with in_turn(["a.h5"], lambda _: pytest.fail("nobody else writes")) as locks:
        assert locks == ()
    assert os.listdir(tmp_path) == ["file"]
