"""Commands end by a signal as other programs do: at once, cleaned up, and dead of that signal."""

from __future__ import annotations

import itertools
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.commands.version import version
from cli.runs.download import PARALLEL_FILES
from cli.signals import ToldToEndError, raise_told_to_end
from tests.cli.conftest import Tspctl
from tsp import entrypoint
from tsp.errors import INTERRUPTED_EXIT_CODE
from tsp.store.local import LocalStore

COMMAND = [sys.executable, "-m", "cli.main"]


@pytest.mark.parametrize("words", [["version"], ["list", "-o", "json"], ["fetch", "--help"]])
def test_a_command_whose_output_nobody_reads_dies_of_sigpipe(local: Path, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *words], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_a_command_goes_on_when_nobody_reads_its_narration(local: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "status", "nobody"], stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    assert done.returncode == 102


def test_a_loop_of_a_shell_ends_with_the_command_that_ctrl_c_ends(local: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from cli import main\n"
        "from cli.commands.version import version\n"
        "version.callback = lambda **_: os.killpg(0, signal.SIGINT)\n"
        "sys.argv = ['tspctl', 'version']\n"
        "main.program()"
    )
    loop = f'for i in 1 2; do echo turn; "{sys.executable}" -c "$0"; done'
    done = subprocess.run(["bash", "-c", loop, program], capture_output=True, text=True, start_new_session=True)
    assert done.stdout == "turn\n", done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("num_bytes", [1, 2000], ids=["about to draw", "drawn"])
def test_watch_gives_the_terminal_back(local: Path, number: signal.Signals, num_bytes: int) -> None:
    pytest.importorskip("textual")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [*COMMAND, "watch"])
    shown, is_told = b"", False
    try:
        while not (is_told and b"\x1b[?1049l" in shown):
            assert select.select([terminal], [], [], 600)[0], shown
            shown += os.read(terminal, 1 << 16)
            if not is_told and len(shown) >= num_bytes:
                os.kill(pid, number)
                is_told = True
        while True:
            shown += os.read(terminal, 1 << 16)
    except OSError:  # the end of the terminal's other side
        pass
    os.close(terminal)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == number
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l"), "the cursor is shown again"


class _Interrupted:
    """An attribute in whose making a class is interrupted, as while modules are imported."""

    def __init__(self, error: KeyboardInterrupt) -> None:
        self.error = error

    def __set_name__(self, owner: type, name: str) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [(KeyboardInterrupt(), "interrupted", 130), (ToldToEndError(signal.SIGTERM), "ended by SIGTERM", 143)],
)
def test_a_command_interrupted_while_modules_are_imported_says_so(
    tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, error: KeyboardInterrupt, said: str, code: int
) -> None:
    monkeypatch.setattr(version, "callback", lambda **_: type("Made", (), {"attribute": _Interrupted(error)}))
    ended = tspctl("version")
    assert (ended.code, ended.err.strip()) == (code, said)


def test_a_job_interrupted_while_modules_are_imported_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = {"attribute": _Interrupted(KeyboardInterrupt())}
    monkeypatch.setattr(entrypoint, "_do_job", lambda *_: type("Made", (), made))
    assert (entrypoint.main(["probe"], {}), caplog.text) == (INTERRUPTED_EXIT_CODE, "")


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")])
def test_fetching_many_files_stops_at_once(
    tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, said: str
) -> None:
    (local / "a" / "logs" / "attempt-1").mkdir(parents=True)
    (local / "a" / "results.txt").write_text("")
    for rank in range(200):
        (local / "a" / "logs" / "attempt-1" / f"rank-{rank}.log").write_text("line\n")
    fetched: list[str] = []
    went_on: list[str] = []
    turns, all_at_work = itertools.count(1), threading.Barrier(PARALLEL_FILES)

    def download(self: LocalStore, key: str, path: Path, *, progress: Callable[[int, int], None], **_: Any) -> None:
        fetched.append(key)
        turn = next(turns)
        if turn <= PARALLEL_FILES:
            all_at_work.wait()
            return
        if turn == PARALLEL_FILES + 1:
            os.kill(os.getpid(), number)
        for _ in range(6000):
            progress(0, 1)  # as a long download does, which that breaks off
            time.sleep(0.01)
        went_on.append(key)

    monkeypatch.setattr(LocalStore, "download", download)
    before = signal.signal(number, raise_told_to_end) if number == signal.SIGTERM else None
    try:
        ended = tspctl("fetch", "a", "--logs")
    finally:
        if before is not None:
            signal.signal(number, before)
    assert (ended.code, ended.err.strip()) == (128 + number, said)
    assert PARALLEL_FILES < len(fetched) <= 2 * PARALLEL_FILES
    assert went_on == []


@pytest.mark.parametrize(
    ("words", "continues"),
    [
        (("data", "standardize", "videos", "out"), True),
        (("extract", "a.pth", "--data", "videos", "--metadata", "m.csv", "--out", "f.h5"), True),
        (("gvf", "a.pth", "--data", "videos", "--metadata", "m.csv", "--out", "f.h5"), True),
        (("data", "probe", "videos"), False),
        (("data", "demo", "demo"), False),
    ],
)
def test_an_interrupted_job_says_whether_the_same_command_continues(
    tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], continues: bool
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.backends.local.jobs._start", interrupted)
    ended = tspctl(*words)
    assert (ended.code, "the same command continues" in ended.err) == (130, continues)
