"""Processes identified by pid and start time, safe against reused pids."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

POLL_SEC = 0.1
_STATE_FIELD, _START_FIELD = 0, 19
"""Fields of /proc/PID/stat, counted after the name in parentheses (proc(5), fields 3 and 22)."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process; never equal to a later one with the same pid."""

    pid: int
    started: str
    """Boot id and clock ticks since boot (Linux), or the start time as printed by ``ps``."""


def identify(pid: int) -> ProcessId | None:
    """The process that currently has this pid; None if there is none, or only a zombie."""
    started = _started(pid)
    return None if started is None else ProcessId(pid, started)


def is_alive(process: ProcessId) -> bool:
    """Whether this process still runs."""
    return identify(process.pid) == process


def send(process: ProcessId, number: signal.Signals, *, to_group: bool = False) -> None:
    """Send a signal if the process is still running. Args: to_group, to its whole process group."""
    if is_alive(process):
        try:
            (os.killpg if to_group else os.kill)(process.pid, number)
        except ProcessLookupError:
            return


def kill_group(leader_pid: int) -> None:
    """Kill the remaining process group of a child that has not been reaped yet."""
    # macOS returns EPERM if only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader_pid, signal.SIGKILL)


def wait_gone(processes: list[ProcessId], timeout_sec: float) -> bool:
    """Wait until none of them runs. Returns: False if the time is up before."""
    deadline = time.monotonic() + timeout_sec
    while any(is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SEC)
    return True


def stop(processes: list[ProcessId], grace_sec: float) -> None:
    """SIGTERM, and after the grace period SIGKILL to the whole group of each that still runs."""
    for process in processes:
        send(process, signal.SIGTERM)
    if not wait_gone(processes, grace_sec):
        for process in processes:
            send(process, signal.SIGKILL, to_group=True)
        wait_gone(processes, grace_sec)


def _started(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if after_name[_STATE_FIELD] in "ZX" else f"{boot} {after_name[_START_FIELD]}"
    # No /proc: macOS
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if answer.returncode or state.startswith("Z") else started.strip()
