"""Machines of a simulation: processes with ids, parents, signals and exit codes; who starts and watches them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.simulation.scheduler import Clock, Process, World
from tests.simulation.stand_ins import replaced

LOOK_SEC = 0.5
"""Between two looks of supervisors and commands at their processes."""


class SimulatedProcess(Process):
    """A process as its machine knows it."""

    def __init__(
        self, name: str, pid: int, home: Path, *, parent: SimulatedProcess | None, dies_with_parent: bool
    ) -> None:
        super().__init__(name)
        self.pid, self.home, self.parent, self.dies_with_parent = pid, home, parent, dies_with_parent
        self.arguments: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}
        self.killed_by: int | None = None

    @property
    def is_gone(self) -> bool:
        """Ended or killed."""
        return self.dead or self.exit_code is not None


class Machines:
    """Every process, whatever machine it runs on; a machine is a folder of its own for what it remembers of runs."""

    def __init__(self, world: World, run: Callable[[SimulatedProcess], None]) -> None:
        """Args: run, does what a process was started for, by its arguments and environment."""
        self.world, self._run = world, run
        self.processes: dict[int, SimulatedProcess] = {}

    @property
    def current(self) -> SimulatedProcess:
        """The process whose turn it is."""
        assert self.world.current is not None
        process = self.world.current.process
        assert isinstance(process, SimulatedProcess)
        return process

    def start(
        self, name: str, home: Path, target: Callable[[SimulatedProcess], object], **family: Any
    ) -> SimulatedProcess:
        """A new process that does one thing. Its exit code is 0, or 1 where that raises."""
        pid = 1000 + len(self.processes)
        process = SimulatedProcess(f"{name}-{pid}", pid, home, **{"parent": None, "dies_with_parent": False, **family})
        self.processes[pid] = process

        def work() -> None:
            code = 1
            try:
                target(process)
                code = 0
            except SystemExit as end:
                code = 1 if end.code else 0
            finally:
                if not process.dead:
                    process.exit_code = code if process.exit_code is None else process.exit_code

        self.world.start(process, work)
        return process

    def signal(self, process: SimulatedProcess, number: int) -> None:
        """As the kernel does."""
        if process.is_gone:
            raise ProcessLookupError
        if number == signal.SIGTERM and process.on_terminate is not None:
            process.on_terminate()
            return
        process.dead, process.killed_by, process.exit_code = True, number, 128 + number
        for child in self.processes.values():
            if child.parent is process and child.dies_with_parent and not child.is_gone:
                self.signal(child, signal.SIGTERM)

    def popen(self, command: Any, *, env: Any = None, preexec_fn: Any = None, **_: Any) -> SimulatedPopen:
        """Stands in for ``subprocess.Popen``."""
        self.world.pause()
        parent = self.current
        kind = "supervisor" if "cli.backends.local.supervisor" in command else "rank"
        process = self.start(kind, parent.home, self._run, parent=parent, dies_with_parent=preexec_fn is not None)
        process.arguments, process.environment = tuple(command), dict(env or {})
        return SimulatedPopen(process)

    def started(self, pid: int) -> str | None:
        """Stands in for the look at /proc."""
        process = self.processes.get(pid)
        return None if process is None or process.is_gone else f"boot {pid}"


class SimulatedPopen:
    """A child, as its parent sees it."""

    def __init__(self, process: SimulatedProcess) -> None:
        self.pid, self._process = process.pid, process
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self._process.is_gone:
            killed_by = self._process.killed_by
            self.returncode = self._process.exit_code if killed_by is None else -killed_by
        return self.returncode


class _Os:
    """The module ``os``: processes are simulated; files are real, and whoever writes one may die before."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def getpid(self) -> int:
        return self._machines.current.pid

    def kill(self, pid: int, number: int) -> None:
        if pid not in self._machines.processes:
            raise ProcessLookupError
        self._machines.signal(self._machines.processes[pid], number)

    killpg = kill

    def waitid(self, _: int, pid: int, __: int) -> object | None:
        return self._machines.processes[pid] if self._machines.processes[pid].is_gone else None

    def replace(self, source: Any, target: Any) -> None:
        self._machines.world.pause()
        os.replace(source, target)

    def symlink(self, source: Any, target: Any) -> None:
        self._machines.world.pause()
        os.symlink(source, target)

    def readlink(self, path: Path) -> str:
        # Also asked on the way out of a block, where a process that was killed does nothing more.
        self._machines.world.pause()
        return os.readlink(path)


class _Shutil:
    def __init__(self, machines: Machines) -> None:
        self._machines = machines

    def rmtree(self, path: Any) -> None:
        self._machines.world.pause()
        shutil.rmtree(path)


class _Subprocess:
    DEVNULL, STDOUT = subprocess.DEVNULL, subprocess.STDOUT

    def __init__(self, machines: Machines) -> None:
        self.Popen = machines.popen


class _Sys:
    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.stderr = sys.stderr

    @property
    def argv(self) -> list[str]:
        return ["supervisor", self._machines.current.arguments[-1]]

    def exit(self, words: object = None) -> None:
        raise SystemExit(words)


class _Signal:
    """Handlers are those of the process whose turn it is."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines

    def __getattr__(self, name: str) -> Any:
        return getattr(signal, name)

    def signal(self, number: int, handler: Any) -> None:
        self._machines.world.pause()
        if number == signal.SIGTERM:
            self._machines.current.on_terminate = lambda: handler(number, None)


@contextlib.contextmanager
def on_machines(machines: Machines) -> Iterator[None]:
    """The local backend, its supervisors and rank groups among simulated processes."""
    clock, fake_os = Clock(machines.world), _Os(machines)
    local = "cli.backends.local"
    stand_ins: dict[str, object] = {
        "tsp.run.processes._started": machines.started,
        "logging.basicConfig": lambda **_: None,
        f"{local}.supervisor.sys": _Sys(machines),
        f"{local}.supervisor.signal": _Signal(machines),
        f"{local}.run_folder.shutil": _Shutil(machines),
        f"{local}.run_folder.state_home": lambda: machines.current.home,
        f"{local}.backend.gpus_here": lambda: [],
        f"{local}.launch.gpus_here": lambda: [],
        "tsp.store.atomic.os": fake_os,
    }
    for module in (
        f"{local}.supervisor",
        f"{local}.run_folder",
        f"{local}.claim",
        "tsp.run.rank_group",
        "tsp.run.processes",
    ):
        stand_ins[f"{module}.os"] = fake_os
    for module in (f"{local}.launch", "tsp.run.rank_group"):
        stand_ins[f"{module}.subprocess"] = _Subprocess(machines)
    for module in (
        f"{local}.launch",
        f"{local}.lifecycle",
        f"{local}.supervisor",
        "tsp.run.rank_group",
        "tsp.run.processes",
    ):
        stand_ins[f"{module}.time"] = clock
        stand_ins[f"{module}.POLL_SEC"] = LOOK_SEC
    with replaced(stand_ins):
        yield
