"""A job on this machine ends with the command that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands.test_fetch import original as original
from tests.sessions import processes_of
from tests.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_tensorboard_gives_its_port_back_when_the_command_is_ended(original: Path, number: signal.Signals) -> None:
    pytest.importorskip("tensorboard")
    command = [sys.executable, "-m", "cli.main", "tensorboard", str(original), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: len(processes_of(process.pid)) > 1, "the server")
        process.send_signal(number)
        process.wait(600)
        wait_until(lambda: not processes_of(process.pid), "all processes have ended")
    finally:
        for left in processes_of(process.pid):
            os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "is_sent_to_all", "code"),
    [
        (signal.SIGINT, True, -signal.SIGINT),
        (signal.SIGINT, False, -signal.SIGINT),
        (signal.SIGTERM, False, -signal.SIGTERM),
        (signal.SIGTERM, True, -signal.SIGTERM),
        (signal.SIGHUP, False, -signal.SIGHUP),
        (signal.SIGKILL, False, -signal.SIGKILL),
    ],
)
def test_a_job_and_its_processes_end_with_the_command(
    home: Path, number: signal.Signals, is_sent_to_all: bool, code: int
) -> None:
    command = [sys.executable, "-m", "cli.main", "data", "demo", "demo", "--train-videos", "400"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_until(lambda: any((home / "demo").glob("train/*.mp4")), "the first video")
        (os.killpg if is_sent_to_all else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=600)
        wait_until(lambda: not processes_of(process.pid), "all processes have ended")
    finally:
        for left in processes_of(process.pid):
            os.kill(left, signal.SIGKILL)
    assert process.returncode == code
    assert "Traceback" not in said
    assert "bug" not in said
    assert "leaked" not in said
    assert said.count("SIGTERM") == (number == signal.SIGTERM), said
    assert not list((home / "demo").glob("*.csv"))
