"""Waiting for processes, by a clock of the test's own."""

import os
import signal
import subprocess
import sys

import pytest

from tsp.run import processes
from tsp.run.processes import ProcessId, identify, is_alive, send, wait_gone


class Clock:
    def __init__(self) -> None:
        self.now_sec = 1000.0

    def monotonic(self) -> float:
        return self.now_sec

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1
        self.now_sec += seconds
        assert self.now_sec < 2000, "it waits for ever"


@pytest.mark.parametrize(
    ("gone_after_sec", "timeout_sec", "is_gone"),
    [(0.0, 0.0, True), (0.5, 5.0, True), (4.5, 5.0, True), (6.0, 5.0, False), (1e9, 0.5, False), (1e9, 60.0, False)],
)
def test_processes_are_waited_for_as_long_as_asked(
    monkeypatch: pytest.MonkeyPatch, gone_after_sec: float, timeout_sec: float, is_gone: bool
) -> None:
    clock = Clock()
    monkeypatch.setattr(processes, "time", clock)
    monkeypatch.setattr(processes, "is_alive", lambda _: clock.now_sec - 1000 < gone_after_sec)
    assert wait_gone([ProcessId(1, "then")], timeout_sec) is is_gone
    assert clock.now_sec - 1000 <= timeout_sec + 1


def test_a_process_is_known_by_when_it_began() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    found = identify(child.pid)
    assert found is not None
    assert is_alive(found)
    assert not is_alive(ProcessId(child.pid, "at another time"))
    send(ProcessId(child.pid, "at another time"), signal.SIGKILL)
    assert is_alive(found)
    send(found, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identify(child.pid) is None, "what is left of it until it is waited for is no process"
    assert child.wait() == -signal.SIGKILL
