"""A run killed at random moments, over stores that fail at random, ends with the weights of one left in peace.

An attempt is a process that counts what it does (steps, validation batches, files written, requests to the store begun
and ended, on whatever thread) and, at a number drawn beforehand of one of these, has itself killed: by SIGKILL, or by
SIGTERM, which it must answer with 143. Each kind of moment is hit in its middle by both signals, then around it at
random. The seed of the draws is in the failure message.
"""

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import threading
from collections import Counter

import pytest
import torch

from tests.fault_proxy import FaultProxy
from tests.fork_server import our_server, use_server
from tests.s3_servers import start_server
from tests.train.worlds import config_for, run_of, same_weights, train_here
from tsp.config.store import StoreConfig
from tsp.errors import TspError, exit_code_of
from tsp.run.metrics import position, read_metrics
from tsp.store.retry import RetryPolicy
from tsp.train import checkpoint
from tsp.train.attempt import train
from tsp.train.distributed import RankEnv
from tsp.train.stop_signal import Stop

pytestmark = [pytest.mark.slow(seconds=30), pytest.mark.timeout(3600)]

EPOCHS = 4
KILLS = {"local": 13, "s3": 13}
PHASES = ("training", "validation", "checkpointing", "upload", "reading")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
RATES = {"error_500": 0.02, "error_503": 0.02, "reset": 0.02, "lost_answer": 0.02, "truncated": 0.02, "slow": 0.01}
SEED = int(os.environ.get("TSP_KILL_SEED", "20"))


class Killer:
    """Counts moments of a phase; at the chosen one this process is sent a signal, at once or milliseconds later."""

    def __init__(self, phase, moment, signal_number, delay_sec, notes):
        self.phase, self.left, self.signal_number, self.delay_sec = phase, moment, signal_number, delay_sec
        self.notes = notes
        self.under_way = Counter()
        self.lock = threading.Lock()

    def __call__(self, phase, begins):
        with self.lock:
            self.under_way[phase] += 1 if begins else -1
            self.left -= phase == self.phase
            if phase == self.phase and self.left == 0:
                if self.delay_sec:
                    threading.Timer(self.delay_sec, self.kill).start()
                else:
                    self.kill()

    def kill(self):
        """Note what is under way on any thread, and send the signal."""
        hit = [phase for phase, count in self.under_way.items() if count > 0]
        with self.notes.open("a") as file:
            file.write(json.dumps([self.signal_number, hit]) + "\n")
        os.kill(os.getpid(), self.signal_number)

    def watch(self, phase, owner, *names):
        for name in names:
            setattr(owner, name, self.watched(phase, getattr(owner, name)))

    def watched(self, phase, real):
        def call(*args, **options):
            self(phase, begins=True)
            try:
                return real(*args, **options)
            finally:
                self(phase, begins=False)

        return call


def attempt_process(config, credentials, server, killer):
    """One attempt, killed at a moment unless ``killer`` is None; exits as a pod does."""
    os.environ.update(credentials)
    if server is not None:
        use_server(server)  # its data workers would be forked from one that imports torch anew
    from tsp.store import open as store_module
    from tsp.store.local import LocalStore
    from tsp.store.s3.store import S3Store
    from tsp.train.step import Stepper
    from tsp.train.validate import Validator

    torch.set_num_threads(1)
    store_module.RetryPolicy = lambda: RetryPolicy(attempts=8, first_delay_sec=0.01)
    if killer is not None:
        killer.watch("training", Stepper, "__call__")
        killer.watch("validation", Validator, "_forward")
        killer.watch("checkpointing", checkpoint, "snapshot", "write")
        for store in (LocalStore, S3Store):
            killer.watch("upload", store, "write", "upload", "delete")
            killer.watch("reading", store, "read", "download")
    stop = Stop()
    stop.install()
    try:
        train(config, RankEnv(), stop, log_into=lambda run, attempt: None)
    except TspError as error:
        os._exit(exit_code_of(error))
    os._exit(0)


def attempt(config, killer=None):
    # The server that processes are forked from was started before the test chose its key pair.
    credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=attempt_process, args=(config, credentials, our_server(), killer))
    process.start()
    process.join(600)
    assert process.exitcode is not None, "an attempt hangs"
    return process.exitcode


class Plan:
    """What is drawn for the attempt of a number; travels to its process and becomes a Killer there."""

    def __init__(self, draw, number, notes):
        round_of_phases, at = divmod(number, len(PHASES))
        # Each phase is hit in the middle by each signal first, then around its moments.
        self.signal_number = (
            draw.choice(SIGNALS) if round_of_phases >= len(SIGNALS) else SIGNALS[(round_of_phases + at) % len(SIGNALS)]
        )
        moment = 2 * draw.randint(0, 4) + 1 if round_of_phases < len(SIGNALS) else draw.randint(1, 12)
        delay_sec = 0.0 if round_of_phases < len(SIGNALS) else draw.random() * 0.01
        self.arguments = (PHASES[at], moment, self.signal_number, delay_sec, notes)

    def __reduce__(self):
        return Killer, self.arguments


@pytest.fixture(scope="module")
def undisturbed(tiny_data, make_once):
    folder = make_once("undisturbed", lambda store: train_here(config_for(tiny_data, store, **CHANGES)))
    return run_of(config_for(tiny_data, folder, **CHANGES))


CHANGES = {
    "schedule__epochs": EPOCHS,
    "schedule__milestones": (3,),
    "clips__per_segment": 3,
    "optim__backbone_lr": 0.005,
    "max_attempts": 1000,
    "state_every_sec": 0.02,
    "metrics_every_steps": 1,
}


@pytest.fixture(params=["local", "s3"])
def store_config(request, tmp_path, monkeypatch):
    if request.param == "local":
        yield StoreConfig(uri=str(tmp_path / "store"))
        return
    with start_server("rclone", tmp_path) as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        with FaultProxy(server.endpoint_url, seed=SEED, rates=RATES, slow_sec=0.05) as proxy:
            proxy.script(*RATES)  # each at least once
            yield server.config("team", endpoint_url=proxy.url)
        assert all(proxy.counts[fault] for fault in RATES)
        assert sum(proxy.counts[fault] for fault in RATES) > 20


def test_a_run_killed_anywhere_ends_with_the_same_weights_and_each_epoch_once(
    undisturbed, tiny_data, tmp_path, store_config
):
    kind = "s3" if store_config.uri.startswith("s3:") else "local"
    draw, notes = random.Random(f"{SEED} {kind}"), tmp_path / "notes.txt"
    ends, killed, number = [], 0, 0
    while killed < KILLS[kind]:
        number += 1
        config = dataclasses.replace(
            config_for(tiny_data, tmp_path, **CHANGES), store=store_config, name=f"run-{number}"
        )
        code, published = None, {}
        while code != 0:
            workers = draw.choice([0, 0, 0, 1, 2])
            changed = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=workers))
            plan = Plan(draw, killed, notes) if killed < KILLS[kind] else None
            code = attempt(changed, plan)
            ends.append((config.name, plan and plan.arguments[:-1], workers, code))
            published |= published_lines(run_of(config))
            expected = {-9} if plan and plan.signal_number == signal.SIGKILL else {143, -15} if plan else set()
            assert code in expected | {151, 0}, f"seed {SEED}: {ends}"
            killed += code in expected
        check_like(run_of(config), undisturbed, tmp_path, f"seed {SEED}: {ends}")
        check_history(run_of(config), list(published.values()), f"seed {SEED}: {ends}")
    hits = [json.loads(line) for line in notes.read_text().splitlines()]
    for signal_number in SIGNALS:
        hit = {phase for number, phases in hits for phase in phases if number == signal_number}
        assert hit == set(PHASES), f"seed {SEED}, {signal_number!r}: {ends}"
    assert len({workers for _, _, workers, _ in ends}) > 1


def published_lines(run):
    """Every whole line of the history that is in the store now, by its text."""
    texts = [run.store.read(entry.key) for entry in run.store.list(run.key("metrics") + "/")]
    return {line: json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith(b"\n")}


def check_history(run, published, message):
    """No step or validation twice; none is lost that was published, unless a later attempt did it again."""
    history = read_metrics(run)
    steps = [round(position(line) * line["steps"]) for line in history if line["kind"] == "train"]
    assert steps == sorted(set(steps)), message
    epochs = [line["epoch"] for line in history if line["kind"] == "valid"]
    assert epochs == sorted(set(epochs)), message
    assert published, message
    for line in published:
        trained_again = any(
            start["kind"] == "start" and start["attempt"] > line["attempt"] and position(start) < position(line)
            for start in published
        )
        validated_again = line["kind"] == "valid" and any(
            (other["kind"], other["epoch"]) == ("valid", line["epoch"]) and other["attempt"] > line["attempt"]
            for other in history
        )
        assert line in history or trained_again or validated_again, f"{line} was published and is lost; {message}"


def check_like(run, undisturbed, folder, message):
    """Each epoch once, and its weights those of a run that was left in peace."""
    lines = run.store.read(run.key("results.txt")).decode().splitlines()
    assert lines == undisturbed.store.read("run/results.txt").decode().splitlines(), message
    assert len(lines) == EPOCHS
    for epoch in range(EPOCHS):
        found, expected = folder / "found.pth", folder / "expected.pth"
        run.download_epoch(epoch, found)
        undisturbed.download_epoch(epoch, expected)
        assert same_weights(checkpoint.read(found)["model"], checkpoint.read(expected)["model"]), message
