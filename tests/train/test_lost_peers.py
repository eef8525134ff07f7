"""A rank that stops, hangs or fails ends the others with the right exit code, whatever their libraries are stuck in."""

import functools
import importlib
import multiprocessing
import os
import signal
import sys
import time

import pytest

from tests.s3_servers import free_port
from tests.train.stuck_group import LATE, NEVER, use
from tests.train.worlds import config_for, run_of
from tests.waiting import wait_until
from tsp import entrypoint
from tsp.config.run import to_json
from tsp.errors import DataError
from tsp.train.attempt import train
from tsp.train.distributed import RankEnv
from tsp.train.peers import PeerMonitor
from tsp.train.stop_signal import Stop

PEER_SEC = 3.0


def impatient():
    """Deadlines of tests."""
    from tsp.train import peers, step, watchdog

    watchdog.LOOK_EVERY_SEC, watchdog.GRACE_SEC = 0.05, 1.0
    watchdog.NOTICE_SEC = 0.5
    peers.EVERY_SEC = 0.2
    step.FIRST_STEPS = 1


def rank_main(folder, config, rank, port, trouble):
    """One rank as a pod runs it; ``trouble`` happens to it."""
    os.setsid()  # else, where the shell that began the tests ends meanwhile, the system wakes a rank that was stopped
    impatient()
    sys.stderr = open(folder / f"rank-{rank}.log", "w", buffering=1)  # noqa: SIM115, kept open
    path = folder / f"config-{rank}.json"
    path.write_text(to_json(config))
    if trouble is not None:
        trouble(rank)
    env = {"TSP_CONFIG": str(path), "TSP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": "2"}
    code = entrypoint.main([], {**env, "MASTER_PORT": str(port)})
    entrypoint._end(code)


def in_step(number, act):
    """Do something at a step, before its sums."""
    from tsp.train.step import Stepper

    real = Stepper._backward

    def backward(self, loss, is_bad):
        if self._num_made == number:
            act()
        real(self, loss, is_bad)

    Stepper._backward = backward


def notice_silence_soon():
    from tsp.train import watchdog

    watchdog.SILENT_PEER_SEC = 3.0


def stop_in_step_2(rank, stopped):
    """Silence is noticed soon only once it is there: until then, a rank may be slow on a busy machine."""
    in_step(2, (lambda: os.kill(os.getpid(), signal.SIGSTOP)) if rank == stopped else notice_silence_soon)


def stop_rank_1(rank):
    stop_in_step_2(rank, stopped=1)


def stop_rank_0(rank):
    stop_in_step_2(rank, stopped=0)


def sleep_in_rank_1(rank):
    if rank == 1:
        in_step(2, lambda: time.sleep(600))


def stop_rank_1_unnoticed(rank):
    from tsp.train import step

    step.STOP_AFTER_SEC = 1.0
    if rank == 1:
        in_step(2, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def never_ends(rank):
    use(NEVER, after=12)


def ends_late(rank):
    use(LATE, after=12)


def fail_rank_1_while_stuck(rank):
    use(NEVER, after=12)
    if rank == 1:

        def fail():
            raise DataError("train_0.mp4 is not to be read")

        in_step(2, fail)


def stuck_while_a_state_is_uploaded(rank):
    """Rank 0's training thread hangs where no verdict reaches it, the first state on its slow way to the store."""
    from tsp.run.stored_run import StoredRun

    real = StoredRun.publish_state

    def slow(self, *args, **options):
        time.sleep(10.0)
        return real(self, *args, **options)

    StoredRun.publish_state = slow
    if rank == 0:
        in_step(2, lambda: time.sleep(600))


def die(rank, who, module, owner, name):
    """Rank ``who`` is killed when it calls a method."""
    if rank == who:
        setattr(getattr(importlib.import_module(module), owner), name, lambda *_, **__: os._exit(137))


def die_before_the_last_word(rank):
    if rank == 1:
        from tsp.train import attempt

        attempt._succeed = lambda *_: os._exit(137)


VALIDATION = ("tsp.train.validate", "Validator", "_forward")
SAVING = ("tsp.train.saver", "Saver", "save_epoch")
AT_THE_END = ("tsp.train.distributed", "Group", "leave")
LAST_UPLOAD = ("tsp.run.stored_run", "StoredRun", "write_outcome")


class Ranks:
    """Two ranks, each in a process of its own."""

    def __init__(self, folder, config, trouble):
        context = multiprocessing.get_context("forkserver")
        port = free_port()
        self.folder = folder
        self.processes = [
            context.Process(target=rank_main, args=(folder, config, rank, port, trouble)) for rank in range(2)
        ]
        for process in self.processes:
            process.start()

    def exit_code(self, rank, within_sec=900):
        self.processes[rank].join(within_sec)
        return self.processes[rank].exitcode

    def log(self, rank):
        path = self.folder / f"rank-{rank}.log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, rank, text, within_sec=600):
        end = time.monotonic() + within_sec
        while text not in self.log(rank):
            assert time.monotonic() < end, self.log(rank)
            assert self.processes[rank].is_alive(), self.log(rank)
            time.sleep(0.05)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.join()


@pytest.fixture
def ranks(tmp_path, tiny_data):
    started = []

    def start(trouble, **changes):
        changes = {"gpus": 2, "batch_per_gpu": 2, "peer_timeout_sec": PEER_SEC, **changes}
        config = config_for(tiny_data, tmp_path / "store", **changes)
        started.append(Ranks(tmp_path, config, trouble))
        started[0].config = config
        return started[0]

    yield start
    for each in started:
        each.kill()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("trouble", "survivor", "words"),
    [
        (stop_rank_1, 0, "no heartbeat from rank 1"),
        (stop_rank_0, 1, "no heartbeat from rank 0"),
        (sleep_in_rank_1, 0, "gave up waiting for"),
        (never_ends, 0, "gave up waiting for"),
        (ends_late, 0, "another rank was lost"),
    ],
)
def test_a_peer_that_no_longer_answers_ends_a_rank_with_150_and_its_last_lines_are_in_the_store(
    ranks, trouble, survivor, words
):
    # Where silence is to be noticed, no deadline may come before it on a busy machine.
    both = ranks(trouble, **({"peer_timeout_sec": 600.0} if words.startswith("no heartbeat") else {}))
    assert both.exit_code(survivor) == 150, both.log(survivor)
    assert words in both.log(survivor)
    run = run_of(both.config)
    assert run.store.read(run.log_key(1, survivor)).decode().rstrip().splitlines()[-1] in both.log(survivor)
    assert words in run.store.read(run.log_key(1, survivor)).decode()
    assert run.read_outcome() is None, "it is tried again"


@pytest.mark.parametrize(
    ("who", "where", "expected"),
    [
        (1, VALIDATION, 150),
        (0, VALIDATION, 150),
        (0, SAVING, 150),
        (0, LAST_UPLOAD, 150),
        (1, AT_THE_END, 0),
        (0, AT_THE_END, 0),
    ],
)
def test_no_rank_ends_well_before_the_run_is_done_for_a_rank_that_ended_well_is_not_started_again(
    ranks, who, where, expected
):
    both = ranks(functools.partial(die, who=who, module=where[0], owner=where[1], name=where[2]), schedule__epochs=1)
    assert both.exit_code(1 - who) == expected, both.log(1 - who)
    assert both.exit_code(who) == 137
    outcome = run_of(both.config).read_outcome()
    assert (outcome is not None) == (expected == 0)
    if outcome is not None:
        assert outcome.state == "succeeded"
        # Started again by itself, it needs nobody to find that out.
        again = RankEnv(rank=who, world_size=2, master_port=free_port())
        train(both.config, again, Stop(), log_into=lambda run, attempt: None)


def test_rank_0_has_succeeded_though_another_dies_before_it_hears_of_it(ranks):
    both = ranks(die_before_the_last_word, schedule__epochs=1)
    assert both.exit_code(0) == 0, both.log(0)
    assert "the run is done anyway" in both.log(0)
    assert run_of(both.config).read_outcome().state == "succeeded"


def test_sigterm_is_heard_while_a_library_waits_for_a_peer_and_status_says_what_for(ranks):
    both = ranks(stop_rank_1_unnoticed, peer_timeout_sec=600.0)
    both.wait_for(0, "waiting for step 2")
    run = run_of(both.config)
    wait_until(lambda: run.read_progress().waiting_for == "step 2", "progress says what is waited for")
    os.kill(both.processes[0].pid, signal.SIGTERM)
    assert both.exit_code(0, within_sec=600) == 143, both.log(0)
    assert "SIGTERM while waiting for step 2" in both.log(0)


def test_why_another_rank_failed_is_heard_while_a_library_waits_for_it(ranks):
    both = ranks(fail_rank_1_while_stuck, peer_timeout_sec=600.0)
    assert both.exit_code(0) == both.exit_code(1) == 3, both.log(0)
    assert "rank 1: train_0.mp4 is not to be read" in both.log(0)
    outcome = run_of(both.config).read_outcome()
    assert (outcome.exit_code, outcome.reason) == (3, "rank 1: train_0.mp4 is not to be read")


@pytest.mark.slow(seconds=20)
def test_a_stuck_rank_ends_with_150_only_when_its_uploads_are_in_the_store(ranks):
    # Long enough for the steps before it on a busy machine: it must be step 2 that is given up.
    both = ranks(stuck_while_a_state_is_uploaded, state_every_sec=0.01, peer_timeout_sec=10.0)
    assert both.exit_code(0) == 150, both.log(0)
    run = run_of(both.config)
    state = run.latest_state()
    assert (state.epoch, state.step) in ((0, 1), (0, 2))
    assert run.download_state(both.folder / "state.pth").sha256 == state.sha256
    assert "gave up waiting for step 2" in run.store.read(run.log_key(1, 0)).decode()


def test_a_rank_is_silent_only_if_its_last_sign_is_older_than_the_stores_last_answer():
    now = time.monotonic()
    monitor = object.__new__(PeerMonitor)
    monitor.rank, monitor._answered = 0, now
    monitor._last_sign = {1: (b"1", now - 1), 2: (b"7", now - 60)}
    assert monitor.silent(30) == [2]
    assert monitor.silent(90) == []
    monitor.rank, monitor._answered = 1, now - 120
    assert monitor.silent(90) == [0], "whose store does not answer"
