"""What the history of a run costs the steps that it describes."""

import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from tsp.config.run import RunConfig
from tsp.run import metrics
from tsp.run.metrics import SEGMENT_BYTES, MetricsLog
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
    log = MetricsLog(StoredRun(bucket, "a-run"), 1)  # type: ignore[arg-type]
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
