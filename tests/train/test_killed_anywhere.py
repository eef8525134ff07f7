"""A run killed at random moments, over stores that fail at random, ends with the weights of one left in peace.

An attempt is a process that counts what it does (steps, validation batches, files written, requests to the store begun
and ended, on whatever thread) and, at a number drawn beforehand, has itself killed: by SIGKILL, or by SIGTERM, which it
must answer with 143. The seed of the draws is in the failure message.
"""

import dataclasses
import multiprocessing
import os
import random
import signal
import threading

import pytest
import torch

from tests.fault_proxy import FaultProxy
from tests.s3_servers import start_server
from tests.train.worlds import config_for, run_of, same_weights, train_here
from tsp.errors import TspError
from tsp.run.retry import RetryPolicy
from tsp.run.store import StoreConfig
from tsp.train import checkpoint
from tsp.train.attempt import exit_code_of, train
from tsp.train.distributed import Launch
from tsp.train.stop import Stop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EPOCHS = 4
KILLS = {"local": 15, "s3": 15}
RATES = {"error_500": 0.02, "error_503": 0.02, "reset": 0.02, "lost_answer": 0.02, "truncated": 0.02, "slow": 0.01}
SEED = int(os.environ.get("TSP_KILL_SEED", "20"))


class Killer:
    """Counts moments; at the chosen one it sends this process a signal, a few milliseconds later."""

    def __init__(self, moment, signal_number, delay_sec):
        self.left, self.signal_number, self.delay_sec = moment, signal_number, delay_sec
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            self.left -= 1
            if self.left == 0:
                threading.Timer(self.delay_sec, os.kill, (os.getpid(), self.signal_number)).start()

    def watch(self, owner, name):
        real = getattr(owner, name)

        def watched(*args, **options):
            self()
            result = real(*args, **options)
            self()
            return result

        setattr(owner, name, watched)


def attempt_process(config, credentials, killer):
    """One attempt, killed at a moment unless ``killer`` is None; exits as a pod does."""
    os.environ.update(credentials)
    from tsp.run import store as store_module
    from tsp.run.store_local import LocalStore
    from tsp.run.store_s3 import S3Store
    from tsp.train.step import Stepper
    from tsp.train.validate import Validator

    torch.set_num_threads(1)
    store_module.RetryPolicy = lambda: RetryPolicy(attempts=8, first_delay_sec=0.01)
    if killer is not None:
        for store in (LocalStore, S3Store):
            for name in ("read", "write", "upload", "delete"):
                killer.watch(store, name)
        killer.watch(Stepper, "__call__")
        killer.watch(Validator, "_row")
        killer.watch(checkpoint, "write")
    stop = Stop()
    stop.install()
    try:
        train(config, Launch(), stop, log_into=lambda run, attempt: None)
    except TspError as error:
        os._exit(exit_code_of(error))
    os._exit(0)


def attempt(config, killer=None):
    # The server that processes are forked from was started before the test chose its key pair.
    credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=attempt_process, args=(config, credentials, killer))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "an attempt hangs"
    return process.exitcode


class Plan:
    """What is drawn for an attempt; travels to its process and becomes a Killer there."""

    def __init__(self, draw):
        self.signal_number = draw.choice([signal.SIGKILL, signal.SIGTERM])
        self.arguments = (draw.randint(1, 60), self.signal_number, draw.random() * 0.01)

    def __reduce__(self):
        return Killer, self.arguments


@pytest.fixture(scope="module")
def undisturbed(tiny_data, tmp_path_factory):
    return train_here(config_for(tiny_data, tmp_path_factory.mktemp("store"), **CHANGES))


CHANGES = {
    "schedule__epochs": EPOCHS,
    "schedule__milestones": (3,),
    "clips__per_segment": 3,
    "optim__backbone_lr": 0.005,
    "max_attempts": 1000,
    "state_every_sec": 0.02,
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
            yield server.config("team", endpoint_url=proxy.url)
        assert sum(proxy.counts[fault] for fault in RATES) > 20


def test_a_run_killed_anywhere_ends_with_the_same_weights_and_each_epoch_once(
    request, undisturbed, tiny_data, tmp_path, store_config
):
    kind = "s3" if store_config.uri.startswith("s3:") else "local"
    draw = random.Random(f"{SEED} {kind}")
    config = dataclasses.replace(config_for(tiny_data, tmp_path, **CHANGES), store=store_config)
    ends = []
    while len(ends) < KILLS[kind]:
        workers = draw.choice([0, 0, 0, 1, 2])
        changed = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=workers))
        plan = Plan(draw)
        code = attempt(changed, plan)
        ends.append((plan.arguments, workers, code))
        allowed = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}}[plan.signal_number]
        assert code in allowed | {151, 0}, f"seed {SEED}: {ends}"
        if code == 0:
            break
    while (code := attempt(config)) == 151:
        ends.append(("unreachable", 0, code))
    assert code == 0, f"seed {SEED}: {ends}"
    killed = [end for end in ends if end[2] not in (0, 151)]
    assert len(killed) >= KILLS[kind] - 2, f"seed {SEED}: {ends}"

    run = run_of(config)
    lines = run.store.read("run/results.txt").decode().splitlines()
    assert lines == undisturbed.store.read("run/results.txt").decode().splitlines(), f"seed {SEED}: {ends}"
    assert len(lines) == EPOCHS
    for epoch in range(EPOCHS):
        found, expected = tmp_path / "found.pth", tmp_path / "expected.pth"
        run.download_epoch(epoch, found)
        undisturbed.download_epoch(epoch, expected)
        assert same_weights(checkpoint.read(found)["model"], checkpoint.read(expected)["model"]), f"seed {SEED}: {ends}"
