"""One schedule of a run on machines of its users: submitted twice, stopped, resumed, its processes killed.

The real code of the local backend, its claims, supervisors and rank groups, over what ``schedule`` simulates.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path

from cli.backends.base import BackendOptions, Plan
from cli.backends.local import supervisor
from cli.backends.local.backend import LocalBackend
from cli.runs.outcome import RESUMABLE
from cli.stores import Stores
from tests.simulation.machine import Machines, SimulatedProcess, on_machines
from tests.simulation.schedule import MAX_ATTEMPTS, RETRY, Schedule, simulated
from tests.simulation.scheduler import Process
from tests.simulation.server import Faults
from tests.simulation.stand_ins import replaced
from tests.simulation.training import EPOCHS, RUN, require
from tsp.config.codec import from_dict
from tsp.config.run import RunConfig
from tsp.errors import FIRST_RETRIED_CODE, DataError, NoSuchRunError, PeerLostError, TspError
from tsp.run.ownership import QUIET_SEC
from tsp.store.open import open_store
from tsp.train.distributed import RankEnv

REFUSED = 2
"""Exit code of a command that said why it did nothing."""
MAX_KILLS = 4
MAX_RESUMES = 14
PATIENCE_SEC = 2400.0
"""All attempts of a run take so long, with the longest pauses between them."""


class LocalSchedule(Schedule):
    """Everything that follows from a seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        super().__init__(seed, folder)
        draw = self.world.random
        self.two_writers = self.checks.two_writers = False
        self.num_submits = draw.choice((1, 2, 2))
        self.config = dataclasses.replace(self.config, gpus=draw.choice((1, 2)))
        self.server.conditions = draw.choice(("honoured", "honoured", "refused", "ignored"))
        if self.server.conditions != "honoured":
            # Then the list is all that shows who else writes.
            self.server.faults = dataclasses.replace(self.server.faults, stale_list=0.0)
        self.homes = [folder / name for name in draw.choice((("here", "here"), ("here", "there")))]
        self.machines = Machines(self.world, self._run_process)
        self.num_kills = 0
        self.won: list[Path] = []
        self.may_be_deleted = False
        """Whether a deletion was killed, perhaps when it had done all of it."""
        self.training: dict[SimulatedProcess, None] = {}
        """Ranks 0 that train or have trained."""

    def play(self) -> None:
        """Raises: ViolationError, HangError."""
        reopen = replaced({"tsp.store.open.open_store": self._open_store})
        with simulated(self), on_machines(self.machines), reopen:
            user = Process("user")
            self.world.start(user, self._use)
            self.world.start(Process("reader"), self._look_on)
            self.world.run()
            for process in (user, *self.machines.processes.values()):
                if isinstance(process.error, AssertionError):
                    raise process.error
                require(
                    process.error is None or isinstance(process.error, TspError), f"{process.name}: {process.error!r}"
                )
            if self.checks.violation is not None:
                raise self.checks.violation

    def check_peers(self, process: Process) -> None:
        """Raises: PeerLostError where the other rank is gone."""
        assert isinstance(process, SimulatedProcess)
        if any(peer.is_gone and peer.exit_code != 0 for peer in self._group_of(process)):
            raise PeerLostError("a peer is gone")

    def _open_store(self, config: object, **_: object) -> object:
        return open_store(self.config.store, retry=RETRY, part_bytes=64)

    def _disturb(self) -> None:
        if self.checks.violation is not None:
            raise self.checks.violation
        draw = self.world.random
        if self.num_kills >= MAX_KILLS:
            self.server.is_down = False
            return
        for process in list(self.machines.processes.values()):
            if not process.is_gone and draw.random() < self.kill_chance / 3:
                self.num_kills += 1
                self.machines.signal(process, signal.SIGKILL)
        if draw.random() < 0.001:
            self.server.is_down = not self.server.is_down and self.kill_chance > 0

    # Processes

    def _run_process(self, process: SimulatedProcess) -> None:
        if "cli.backends.local.supervisor" in process.arguments:
            supervisor.main()
        else:
            process.on_terminate = lambda: setattr(process, "terminate", True)
            (self._lead if process.environment["RANK"] == "0" else self._follow)(process)

    def _lead(self, process: SimulatedProcess) -> None:
        self.trainers.append(process)
        config = from_dict(RunConfig, json.loads(Path(process.environment["TSP_CONFIG"]).read_text()), where="config")
        self.train_one(process, config, RankEnv(owner=process.environment["TSP_OWNER"]))

    def begin_training(self, process: Process) -> None:
        """Raises: ViolationError while another trains."""
        assert isinstance(process, SimulatedProcess)
        others = [other.name for other in self.training if not other.is_gone]
        require(not others, f"{process.name} starts to train while {others} still do")
        self.training[process] = None

    def _follow(self, process: SimulatedProcess) -> None:
        """A rank that does what rank 0 does."""
        while not process.terminate:
            self.world.pause(self.world.now + 1.0)
            gone = [peer.exit_code for peer in self._group_of(process) if peer.is_gone]
            if gone:
                process.exit_code = 0 if gone == [0] else 150
                return
        process.exit_code = 143

    def _group_of(self, process: SimulatedProcess) -> list[SimulatedProcess]:
        port = process.environment["MASTER_PORT"]
        return [
            other
            for other in self.machines.processes.values()
            if other is not process and other.environment.get("MASTER_PORT") == port and other.parent is process.parent
        ]

    # Users

    def _command(self, home: Path, do: Callable[[LocalBackend], object]) -> SimulatedProcess:
        """A command of a user, which may be killed; refusals are what it says."""

        def work(process: SimulatedProcess) -> None:
            try:
                do(LocalBackend(Stores()))
            except TspError:
                process.exit_code = REFUSED

        return self.machines.start("tspctl", home, work)

    def _wait(self, *processes: SimulatedProcess) -> None:
        end = self.world.now + PATIENCE_SEC
        while not all(process.is_gone for process in processes):
            require(self.world.now < end, f"{[p.name for p in processes if not p.is_gone]} do not end")
            self.world.pause(self.world.now + 1.0)

    def _status(self, home: Path) -> tuple[str, str | None]:
        """State and reason, as ``status`` shows them."""
        found: list[tuple[str, str | None]] = []

        def look(backend: LocalBackend) -> None:
            status = backend.status(RUN)
            found.append(("missing", None) if status is None else (status.state, status.reason))

        process = self._command(home, look)
        self._wait(process)
        return found[0] if found else ("unknown", None)

    def _submit(self, home: Path) -> SimulatedProcess:
        return self._command(home, self._submit_here)

    def _use(self) -> None:
        draw = self.world.random
        submits = [(home, self._submit(home)) for home in self.homes[: self.num_submits]]
        self._wait(*(process for _, process in submits))
        self.won = [home for home, process in submits if process.exit_code == 0]
        require(len(self.won) <= 1, f"{len(self.won)} submits of one name won")
        home = self.won[0] if self.won else self._submit_anew()
        for _ in range(draw.randrange(4)):
            self.world.pause(self.world.now + draw.expovariate(0.1))
            if self._meddle(home) == "deleted":
                return
            home = self._perhaps_elsewhere(home)
        self._go_on_to_the_end(home)

    def _perhaps_elsewhere(self, home: Path) -> Path:
        """Somebody at the other machine resumes the run, whatever it does at the first. Returns: who has it now."""
        others = [other for other in set(self.homes) if other != home]
        if not others or self.world.random.random() < 0.5:
            return home
        self._wait(resumed := self._resume(others[0]))
        return (
            others[0] if resumed.exit_code == 0 and self._status(others[0])[0] not in ("missing", "crashed") else home
        )

    def _submit_anew(self) -> Path:
        """After submits that were killed or got no answer: clean up as ``status`` advises, and try again."""
        for number in range(MAX_RESUMES):
            if number == 3:
                self.server.is_down, self.num_kills = False, MAX_KILLS
            states = {home: self._status(home)[0] for home in self.homes}
            for home in [home for home, state in states.items() if state == "crashed"]:
                # A submit that was killed once its run was in the store is a run like any other. Whoever resumes it
                # does not know whether another machine trains the name by now.
                if self._command_ends(home, lambda backend: backend.resume(RUN, None)):
                    return home
                self._command_ends(home, lambda backend: backend.delete(RUN))
            for home, state in states.items():
                if state in ("running", "restarting", "pending", "succeeded", "failed", "suspended"):
                    return home
            # What another machine put into the store can be gone on with here, once that is silent.
            self.world.pause(self.world.now + self.world.random.choice((1.0, QUIET_SEC)))
            self._wait(resumed := self._resume(self.homes[0]))
            if resumed.exit_code == 0 and self._status(self.homes[0])[0] != "missing":
                return self.homes[0]
            if self._command_ends(self.homes[0], self._submit_here):
                return self.homes[0]
        require(False, "a run could not be submitted in any number of tries")
        return self.homes[0]

    def _submit_here(self, backend: LocalBackend) -> None:
        backend.submit(Plan(config=self.config, options=BackendOptions()))

    def _command_ends(self, home: Path, do: Callable[[LocalBackend], object]) -> bool:
        process = self._command(home, do)
        self._wait(process)
        return process.exit_code == 0

    def _meddle(self, home: Path) -> str:
        """One of the things that users and machines do to a run. Returns: which."""
        draw = self.world.random
        grace_sec = draw.choice((1.0, 60.0))
        what = draw.choice(("suspend", "cancel", "kill", "resume", "delete", "orphan"))
        if what == "orphan":
            # Without its supervisor, and ranks that may still be saving: then one of the others.
            self._kill(lambda process: process.name.startswith("supervisor"))
            what = draw.choice(("resume", "delete", "cancel"))
        if what == "kill":
            self._kill(lambda process: True)
        elif what in ("suspend", "cancel"):
            self._wait(self._command(home, lambda backend: getattr(backend, what)(RUN, grace_sec=grace_sec)))
        elif what == "resume":
            # Twice at once: one may win.
            self._wait(*(self._resume(home) for _ in range(2)))
        else:
            self._wait(deletion := self._command(home, lambda backend: backend.delete(RUN)))
            if deletion.exit_code == 0:
                # It had ended there, so nothing of it runs there; another machine may have taken it over.
                self._require_nothing_runs("the run was deleted", home)
                return "deleted"
            self.may_be_deleted |= deletion.exit_code != REFUSED
        return what

    def _kill(self, which: Callable[[SimulatedProcess], bool]) -> None:
        """SIGKILL to one of the processes that run."""
        running = [process for process in self.machines.processes.values() if not process.is_gone and which(process)]
        if running:
            self.num_kills += 1
            self.machines.signal(self.world.random.choice(running), signal.SIGKILL)

    def _resume(self, home: Path) -> SimulatedProcess:
        def resume(backend: LocalBackend) -> None:
            status, config = backend.status(RUN), None
            with contextlib.suppress(NoSuchRunError):
                config = self.open_run().config()
            if status.state in RESUMABLE if status is not None else config is not None:
                backend.resume(RUN, config)

        return self._command(home, resume)

    def _go_on_to_the_end(self, home: Path) -> None:
        """Resume it until nothing more is to be done; then look at what is there."""
        for _ in range(MAX_RESUMES):
            end = self.world.now + PATIENCE_SEC
            state, reason = self._status(home)
            while state in ("running", "restarting", "pending", "unknown"):
                require(self.world.now < end, f"the run stays {state}: {reason}")
                self.world.pause(self.world.now + 5.0)
                state, reason = self._status(home)
            if state == "missing" and self.may_be_deleted:
                # The deletion was killed when it had done all of it.
                self._require_nothing_runs("the run was deleted", home)
                return
            require(state in RESUMABLE | {"succeeded"}, f"the run is {state}: {reason}")
            require(state == "succeeded" or reason, f"the run is {state}, and nothing says why")
            self._require_that_restarts_were_tried(home, state)
            if state == "succeeded" or self._is_permanent(home):
                break
            self.num_kills = MAX_KILLS
            self._wait(resumed := self._resume(home))
            if resumed.exit_code != 0:
                # Another machine took it over and died.
                self.world.pause(self.world.now + QUIET_SEC)
        else:
            require(False, f"the run is {state} after {MAX_RESUMES} resumes: {reason}")
        self.server.faults, self.server.is_down, self.num_kills = Faults(), False, MAX_KILLS
        self._check_local_end(state)

    def _is_permanent(self, home: Path) -> bool:
        return self._exit_code(home) == DataError.exit_code

    def _require_that_restarts_were_tried(self, home: Path, state: str) -> None:
        code = self._exit_code(home)
        tried = sum("RANK" in process.environment for process in self.machines.processes.values())
        is_final = state == "failed" and code is not None and code >= FIRST_RETRIED_CODE
        require(not is_final or tried >= MAX_ATTEMPTS, f"given up with exit code {code} after {tried} processes")

    def _exit_code(self, home: Path) -> int | None:
        codes: list[int | None] = []
        self._wait(self._command(home, lambda backend: codes.append(getattr(backend.status(RUN), "exit_code", None))))
        return codes[0] if codes else None

    def _check_local_end(self, state: str) -> None:
        run = self.open_run()
        records = run.epochs()
        if state == "succeeded":
            require(list(records) == list(range(EPOCHS)), f"done, but the epochs are {list(records)}")
            results = self.server.objects[f"team/{RUN}/results.txt"].data.decode()
            require(
                results == "".join(f"{records[epoch].results_line}\n" for epoch in records), "results.txt is behind"
            )
            outcome = run.read_outcome()
            require(outcome is not None and outcome.state == "succeeded", f"done, but the outcome is {outcome}")
        self._require_nothing_runs("the run has ended")
        self._read(run, self.folder / "end.pth")

    def _require_nothing_runs(self, what: str, home: Path | None = None) -> None:
        """Args: home, of the machine that is looked at; None for all."""
        ranks = [
            process
            for process in self.machines.processes.values()
            if "RANK" in process.environment and home in (None, process.home)
        ]
        running = [process.name for process in ranks if not process.is_gone]
        require(not running, f"{what}, and {running} still run")
