"""Starting a run's supervisor, and the settings with which it starts the ranks."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

from cli.backends.local.gpus import gpus_here
from cli.backends.local.records import Launch
from cli.backends.local.run_folder import LocalRun
from tsp.config.run import RunConfig
from tsp.errors import TspError
from tsp.run.processes import POLL_SEC

ENTRYPOINT = (sys.executable, "-P", "-m", "tsp.entrypoint")
"""Program of a rank; -P keeps a folder called tsp in the user's current folder from shadowing ours."""
START_TIMEOUT_SEC = 120.0
"""Only ends what hangs: a supervisor that dies is noticed at once, and a busy machine takes long to start one."""


def machine_name() -> str:
    """What owners of runs on this machine begin with."""
    return f"machine {socket.gethostname()}"


def new_owner() -> str:
    """A name for this machine as the one that trains a run, unique to this submit."""
    return f"{machine_name()} ({uuid.uuid4().hex[:12]})"


def launch_of(config: RunConfig, owner: str) -> Launch:
    """How to start a run on the GPUs of this machine."""
    return Launch(
        name=config.name,
        store=config.store,
        gpus=config.gpus,
        command=ENTRYPOINT,
        devices=tuple(card.device for card in gpus_here()[: config.gpus]),
        max_attempts=config.max_attempts,
        created=datetime.now(UTC).isoformat(),
        owner=owner,
    )


def start_supervisor(local: LocalRun) -> None:
    """Start a run's supervisor in a session of its own, and wait until it has taken over.

    Raises: TspError with its last line of output if it does not start.
    """
    log = local.folder / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.backends.local.supervisor", str(local.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=local.folder,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_SEC
    while process.poll() is None and time.monotonic() < deadline:
        supervised = local.supervised()
        if supervised is not None and supervised.pid == process.pid:
            return
        time.sleep(POLL_SEC)
    if process.poll() != 0:
        words = log.read_text().strip().splitlines()[-1:] or ["nothing"]
        raise TspError(f"the supervisor of run {local.name} did not start; it said: {words[0]} (full log: {log})")
