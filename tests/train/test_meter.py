"""What the history of a run says of its steps, and what it costs them."""

import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from tsp.config.run import RunConfig
from tsp.run import metrics
from tsp.run.metrics import SEGMENT_BYTES, MetricsLog
from tsp.run.results import EpochResult, HeadResult
from tsp.run.stored_run import StoredRun
from tsp.train.data_wait import DataWait
from tsp.train.meter import Meter
from tsp.train.step import StepReport
from tsp.train.usage import Usage

STEP_SEC = 0.028
"""Of one CPU core, of the smallest model here: no real step is shorter."""
MAX_SHARE = 0.005
LINES = 40
MAX_LINE_BYTES = 600
DEFAULT_EVERY_STEPS = next(item.default for item in fields(RunConfig) if item.name == "metrics_every_steps")


class Bucket:
    """Of a store that is not on this machine what the history uses; counts what is sent."""

    def __init__(self) -> None:
        self.sent_bytes: list[int] = []
        self.held: dict[str, bytes] = {}

    def local_path(self, key: str) -> None:
        return None

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        self.held[key] = path.read_bytes()
        self.sent_bytes.append(len(self.held[key]))


def test_the_history_costs_less_than_half_a_percent_of_the_shortest_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In CPU time of all threads, which a busy machine does not change; with uploads that no pause makes fewer."""
    monkeypatch.setattr(metrics, "PAUSE_SEC", 0.0)
    bucket, every_steps = Bucket(), DEFAULT_EVERY_STEPS
    log = MetricsLog(StoredRun(bucket, "a-run"), 1)
    log.write("start", note="x" * (SEGMENT_BYTES - 2**14))  # the segment is nearly as long as it gets
    usage = Usage(torch.device("cpu"))
    meter = Meter(log, usage, ("action-label", "temporal-region-label"), global_batch=32, every_sec=1e9,
                  every_steps=every_steps)  # fmt: skip
    meter.enters(epoch=3, steps=LINES * every_steps, wait=DataWait())
    began_sec = time.process_time()
    for step in range(LINES * every_steps):
        meter.step(
            StepReport(step=step, loss=1 / 3, losses=(1 / 7, 1 / 9), gradient_norm=1 / 11, loss_scale=1.0,
                       bad_here=False, bad_anywhere=False, stop_anywhere=False, names=()),
            {"backbone": 1 / 3, "fc": 1 / 7},
        )  # fmt: skip
    meter.close()
    cost_sec = (time.process_time() - began_sec) / (LINES * every_steps)
    assert cost_sec < MAX_SHARE * STEP_SEC
    lines = [line for data in bucket.held.values() for line in data.splitlines() if b'"kind":"train"' in line]
    assert len(lines) == LINES
    assert max(map(len, lines)) < MAX_LINE_BYTES
    assert 0 < len(bucket.sent_bytes) <= LINES + 3, "a line, an upload; and one as a segment begins and ends"
    assert max(bucket.sent_bytes) <= SEGMENT_BYTES


class Lines:
    """A log that keeps what is written."""

    def __init__(self) -> None:
        self.all: list[dict[str, object]] = []

    def write(self, kind: str, **values: object) -> None:
        self.all.append({"kind": kind, **values})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the test sets."""
    now = [1000.0]
    monkeypatch.setattr("tsp.train.meter.time.monotonic", lambda: now[0])
    return now


def report(step: int, loss: float, scale: float = 1.0) -> StepReport:
    return StepReport(step=step, loss=loss, losses=(loss / 2, loss * 2), gradient_norm=step / 2, loss_scale=scale,
                      bad_here=False, bad_anywhere=False, stop_anywhere=False, names=())  # fmt: skip


def a_meter(log: Lines, *, every_sec: float = 1e9, every_steps: int = 10**9) -> Meter:
    return Meter(log, lambda: {"cpus": 1.5}, ("action", "region"), global_batch=64, every_sec=every_sec,
                 every_steps=every_steps)  # fmt: skip


def test_a_line_has_the_means_of_its_steps_and_the_state_of_the_last(clock: list[float]) -> None:
    log, wait = Lines(), DataWait()
    meter = a_meter(log, every_steps=3)
    wait.total_sec = 100.0
    meter.enters(epoch=2, steps=50, wait=wait)
    for step, loss in ((7, 1.0), (8, 2.0), (9, 6.0)):
        clock[0] += 1.0
        wait.total_sec += 0.123456
        meter.step(report(step, loss), {"backbone": 1e-4, "fc": 2e-3})
    assert log.all == [
        {
            "kind": "train", "epoch": 2, "step": 10, "steps": 50, "loss": 3.0, "losses": {"action": 1.5, "region": 6.0},
            "backbone_lr": 1e-4, "head_lr": 2e-3, "clips_per_sec": 64.0, "data_wait_share": 0.1235,
            "gradient_norm": 4.5, "loss_scale": 1.0, "cpus": 1.5,
        }
    ]  # fmt: skip
    clock[0] += 3.0
    wait.total_sec += 9.0
    meter.step(report(10, float("nan")), {})
    meter.leaves()
    meter.leaves()
    (_, last) = log.all
    assert (last["step"], last["clips_per_sec"], last["data_wait_share"], last["backbone_lr"]) == (11, 21.33, 1.0, None)
    assert str(last["loss"]) == "nan"


@pytest.mark.parametrize(
    ("every_sec", "every_steps", "lines"), [(10.0, 10**9, 2), (9.9, 10**9, 2), (1e9, 5, 5), (1e9, 26, 0)]
)
def test_a_line_is_written_every_so_many_seconds_or_steps(clock, every_sec, every_steps, lines) -> None:
    log = Lines()
    meter = a_meter(log, every_sec=every_sec, every_steps=every_steps)
    meter.enters(epoch=0, steps=25, wait=DataWait())
    for step in range(25):
        clock[0] += 1.0
        meter.step(report(step, 1.0), {})
    assert len(log.all) == lines
    meter.leaves()
    assert len(log.all) == lines + (25 % (10 if every_sec < 1e9 else every_steps) > 0)


def test_a_validation_has_the_figures_of_each_head() -> None:
    log = Lines()
    heads = (HeadResult("action", 50.0, 1.5), HeadResult("region", 70.0, 0.5))
    a_meter(log).validated(EpochResult(3, heads, 2.0, 60.0))
    assert log.all == [
        {
            "kind": "valid", "epoch": 3, "loss": 2.0, "accuracy_percent": 60.0,
            "losses": {"action": 1.5, "region": 0.5},
            "accuracies_percent": {"action": 50.0, "region": 70.0},
        }
    ]  # fmt: skip


def test_an_attempt_says_where_it_begins_and_what_has_changed_since_the_first() -> None:
    log = Lines()
    where = {"epoch": 1, "step": 2, "steps": 3, "world_size": 4}
    a_meter(log).starts(**where)
    a_meter(log).starts(**where, changed={"torch": "2 -> 3"})
    begin = {"kind": "start", **where, "global_batch": 64}
    assert log.all == [begin, {**begin, "changed": {"torch": "2 -> 3"}}]
