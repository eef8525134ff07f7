"""One schedule: a run that is trained by processes that die, on a server that fails, while others look on.

The real code of store, transfers, uploader, log shipping, records, attempts and resume positions; only a step costs
nothing, the network is simulated, and threads pass a baton. What must hold is checked after each change of the store
(``Checks``), by a reader that looks on (``_read``), and at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.simulation.checks import Checks
from tests.simulation.scheduler import Clock, InlinePool, Process, Threads, World
from tests.simulation.server import Client, Faults, Server
from tests.simulation.stand_ins import replaced
from tests.simulation.training import EPOCHS, RUN, FakeTraining, require, weights_after
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import RunConfig
from tsp.errors import DataError, MissingKeyError, StoreUnreachableError, TspError, exit_code_of
from tsp.run.log_shipper import LogShipper
from tsp.run.records import Outcome
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store
from tsp.store.retry import RetryPolicy
from tsp.train import attempt as attempts
from tsp.train.distributed import RankEnv
from tsp.train.stop_signal import Stop

MAX_STARTS = 7
MAX_ATTEMPTS = 20
RETRY = RetryPolicy(attempts=4)


@functools.cache
def base_config() -> RunConfig:
    """Of every schedule's run."""
    made = resolve(load_dataset("demo"), "tac", name=RUN, store={"uri": "s3://bucket/team"}, root="/data")
    return dataclasses.replace(made, max_attempts=MAX_ATTEMPTS)


class Schedule:
    """Everything that follows from a seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.world, self.folder = World(seed), folder
        draw = self.world.random
        worst = draw.choice((0.0, 0.02, 0.1))
        self.server = Server(
            self.world,
            Faults(
                refused=draw.random() * worst,
                lost_answer=draw.random() * worst,
                throttled=draw.random() * worst,
                stale_list=draw.choice((0.0, 0.0, 0.3)),
                forgets_uploads=draw.random() * worst / 2,
                truncated=draw.random() * worst,
            ),
            skew_sec=draw.choice((0.0, -86_400.0, 7_200.0)),
        )
        self.kill_chance = draw.choice((0.0, 0.002, 0.01))
        self.two_writers = draw.random() < 0.2
        self.bad_data_chance = draw.choice((0.0, 0.0, 0.05))
        self.parallel_from_bytes = draw.choice((128, 1 << 20))
        self.config = dataclasses.replace(base_config(), keep_epochs=draw.choice((0, 0, 1)))
        self.trainers: list[Process] = []
        self.shippers: dict[Process, list[LogShipper]] = {}
        self.checks = Checks(self.server, keeps_all=self.config.keep_epochs == 0, two_writers=self.two_writers)
        self.server.after_change = self.checks
        self.world.before_turn = self._disturb

    def play(self) -> None:
        """Raises: ViolationError, HangError."""
        with simulated(self):
            self.world.start(Process("operator"), self._operate)
            self.world.start(Process("reader"), self._look_on)
            self.world.run()
            if self.checks.violation is not None:
                raise self.checks.violation
            for process in self.trainers:
                require(process.error is None, f"{process.name}: {process.error!r}")
            self.server.faults, self.server.is_down = Faults(), False
            self.world.before_turn = lambda: None
            process = Process("at the end")
            self.world.start(process, self._check_the_end)
            self.world.run()
            if process.error is not None:
                raise process.error

    def open_run(self) -> StoredRun:
        """As each process does for itself."""
        return StoredRun(open_store(self.config.store, retry=RETRY, part_bytes=64), RUN)

    def _disturb(self) -> None:
        if self.checks.violation is not None:
            raise self.checks.violation
        draw = self.world.random
        may_disturb = len(self.trainers) < MAX_STARTS
        for process in self.trainers:
            if may_disturb and not process.dead and process.exit_code is None and draw.random() < self.kill_chance:
                process.dead, process.exit_code = True, 137
        if draw.random() < 0.002:
            self.server.is_down = may_disturb and not self.server.is_down and self.kill_chance > 0

    def _operate(self) -> None:
        """The operator: restarts what ended retryably, sometimes before the old process is gone."""
        for number in range(MAX_STARTS + 2):
            process = Process(f"attempt-{number + 1}")
            self.trainers.append(process)
            self.world.start(process, functools.partial(self._train, process))
            patience = self.world.random.randrange(8, 160)
            stop_at = self.world.random.randrange(160) if self.world.random.random() < 0.3 else -1
            turns = 0
            while process.exit_code is None:
                self.world.pause(self.world.now + 0.5)
                turns += 1
                if turns == stop_at and number < MAX_STARTS:
                    process.terminate = True
                if self.two_writers and turns > patience and number < MAX_STARTS - 1:
                    break  # taken for lost; it goes on
            if process.exit_code is not None and process.exit_code < 128:
                break
            if process.exit_code == 143 and not self.two_writers and self.world.random.random() < 0.5:
                self._suspend()
        for process in self.trainers:
            while process.exit_code is None:
                self.world.pause(self.world.now + 1.0)

    def _suspend(self) -> None:
        """As ``tspctl suspend`` does once the pods are gone; the next attempt is a ``tspctl resume``."""
        with contextlib.suppress(StoreUnreachableError):
            run = self.open_run()
            attempt = run.last_attempt()
            run.write_outcome(Outcome(state="suspended", exit_code=143, reason="suspended", attempt=attempt))

    def _train(self, process: Process) -> None:
        """One pod of rank 0."""
        self.train_one(process, self.config, RankEnv())

    def train_one(self, process: Process, config: RunConfig, rank_env: RankEnv) -> None:
        """One attempt; how it ended is the process's exit code."""
        stop = Stop()
        shippers: list[LogShipper] = []

        def log_into(run: StoredRun, attempt: int) -> None:
            shippers.append(LogShipper(run.store, run.log_key(attempt, 0)))

        self.shippers[process] = shippers
        code = 1
        try:
            self.open_run().ensure(config, None)
            attempts.train(config, rank_env, stop, log_into=log_into)
            code = 0
        except TspError as error:
            code = exit_code_of(error)
        finally:
            if not process.dead:
                for shipper in shippers:
                    shipper.close()
                process.exit_code = code

    def train_with_peers(self, _: RunConfig, __: RankEnv, ___: Stop, run: StoredRun, attempt: int, *____: Any) -> None:
        """What stands for the ranks, their loader and their model."""
        assert self.world.current is not None
        process = self.world.current.process
        self.begin_training(process)
        FakeTraining(self, process, run, attempt)()
        attempts.record_success(run, attempt)

    def begin_training(self, process: Process) -> None:
        """Called when a process has found out that there is something to train."""

    def check_peers(self, process: Process) -> None:
        """Raises: PeerLostError where another rank of the process is gone; here there are none."""

    def _look_on(self) -> None:
        """Somebody with ``status``, ``results`` and ``fetch-best``, until the run has ended."""
        run = self.open_run()
        for number in range(6):
            self.world.pause(self.world.now + self.world.random.expovariate(0.2))
            with contextlib.suppress(StoreUnreachableError):
                self._read(run, self.folder / f"read-{number}.pth")

    def _read(self, run: StoredRun, path: Path) -> None:
        run.read_progress()
        run.read_outcome()
        state = run.latest_state()
        require(state is None or state.size_bytes > 0, "a state of no size")
        with contextlib.suppress(DataError, MissingKeyError):
            winner = run.best()
            record = run.download_epoch(winner.epoch, path)
            require(record is not None, "an epoch without a record counted")
            content = json.loads(path.read_bytes())
            require(content["value"] == weights_after(winner.epoch), f"epoch {winner.epoch} was read wrongly")

    def _check_the_end(self) -> None:
        run = self.open_run()
        outcome, records = run.read_outcome(), run.epochs()
        codes = [process.exit_code for process in self.trainers]
        # Of bad data the exit code is all there is where the store let none of the tries to write the outcome through.
        bad_data_unsaid = codes[-1] == DataError.exit_code and self._let_no_outcome_through(self.trainers[-1])
        if outcome is None and not bad_data_unsaid:
            last = codes[-1]
            require(last is not None and last >= 128, f"ended with {codes}, and nothing says why")
        elif outcome is None:
            pass
        elif outcome.state == "succeeded":
            require(list(records) == list(range(EPOCHS)), f"done, but the epochs are {list(records)}")
        else:
            require(outcome.reason, "failed, and nothing says why")
            require(not outcome.reason.startswith("unexpected"), outcome.reason)
        if codes[-1] == DataError.exit_code and not self.two_writers and not bad_data_unsaid:
            require(outcome is not None and outcome.state == "failed", f"bad data, but the outcome is {outcome}")
        require(run.last_attempt() <= len(self.trainers), f"{len(self.trainers)} starts, attempt {run.last_attempt()}")
        if codes[-1] == 0:
            require(outcome is not None and outcome.state == "succeeded", f"exit code 0, but the outcome is {outcome}")
            results = self.server.objects[f"team/{RUN}/results.txt"].data.decode()
            expected = "".join(f"{records[epoch].results_line}\n" for epoch in sorted(records))
            require(results == expected, f"results.txt has {results!r}, the records say {expected!r}")
        self._read(run, self.folder / "end.pth")

    def _let_no_outcome_through(self, process: Process) -> bool:
        tries = self.server.writes[process.name, f"team/{RUN}/outcome.json"]
        return len(tries) >= RETRY.attempts and not any(tries[-RETRY.attempts :])


@contextlib.contextmanager
def simulated(schedule: Schedule) -> Iterator[None]:
    """The modules under test with the simulated threads, clock, randomness and network."""
    world, server = schedule.world, schedule.server
    stand_ins: dict[str, object] = {
        "tsp.store.s3.client.within": lambda timeout_sec, request: request(),
        "tsp.store.s3.client.make_client": lambda config: Client(server),
        "tsp.store.transfer.RANGE_BYTES": 64,
        "tsp.store.transfer.PARALLEL_FROM_BYTES": schedule.parallel_from_bytes,
        "tsp.train.checkpoint.read": lambda path: json.loads(path.read_bytes()),
        "tsp.train.attempt.open_store": lambda config: open_store(config, retry=RETRY, part_bytes=64),
        "tsp.train.attempt._train_with_peers": schedule.train_with_peers,
        "os.fsync": lambda descriptor: None,
    }
    for module in ("tsp.run.uploader", "tsp.run.log_shipper"):
        stand_ins[f"{module}.threading"] = Threads(world)
    for module in ("tsp.run.uploader", "tsp.store.s3.client", "tsp.store.claims", "tsp.store.transfer"):
        stand_ins[f"{module}.time"] = Clock(world)
    for module in (
        "tsp.store.transfer",
        "tsp.store.s3.upload",
        "tsp.store.base",
        "tsp.run.epochs",
        "tsp.run.stored_run",
    ):
        stand_ins[f"{module}.ThreadPoolExecutor"] = InlinePool
    for module in ("tsp.store.retry", "tsp.store.claims"):
        stand_ins[f"{module}.random"] = world.random
    with replaced(stand_ins):
        yield


def play(seed: int, make: Callable[[int, Path], Schedule] = Schedule) -> str | None:
    """Play one schedule. Returns: what did not hold, None if all did."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tspctl-simulation-", dir=base, ignore_cleanup_errors=True) as folder:
        schedule = make(seed, Path(folder))
        try:
            schedule.play()
        except AssertionError as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:
            return f"unexpected {type(error).__name__}: {error}"
        finally:
            schedule.world.end()
    return None
