"""What is said while a run goes on: progress.json, a bar on a terminal, lines elsewhere."""

import io
import logging

import pytest

from tsp.config.sizing import EffectiveSizes
from tsp.run.results import EpochResult, HeadResult
from tsp.train import progress
from tsp.train.progress import Plan, Reporter

SIZES = EffectiveSizes(
    downscale=2, world_size=2, batch_per_gpu=16, global_batch=32, backbone_lr=1e-4, head_lr=4e-3, stem_lr=0.0
)
PLAN = Plan(epochs=3, train_steps=100, valid_steps=30)


class Uploads:
    def __init__(self):
        self.all = []

    def submit_progress(self, item):
        self.all.append(item)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def make(stream=None):
    uploads = Uploads()
    return uploads, Reporter(uploads, SIZES, PLAN, attempt=4, device="cpu", stream=stream or io.StringIO())


def test_progress_is_written_at_each_phase_and_every_ten_seconds(clock):
    uploads, reporter = make()
    reporter.enter("training", epoch=0, steps=100)
    for step in range(1, 31):
        clock[0] += 0.5
        reporter.advance(step, rates={"stem": 0.0, "backbone": 5e-5, "fc": 2e-3}, loss=1.5)
    assert [(item.phase, item.step) for item in uploads.all] == [("training", 0), ("training", 20)]
    last = uploads.all[-1]
    assert last.clips_per_sec == 64.0
    assert (last.backbone_lr, last.head_lr) == (5e-5, 2e-3)
    assert (last.attempt, last.world_size, last.downscale, last.global_batch) == (4, 2, 2, 32)


def test_the_end_is_estimated_from_measured_steps(clock):
    uploads, reporter = make()
    reporter.enter("training", epoch=1, steps=100)
    assert uploads.all[-1].eta_sec is None
    clock[0] += 20.0
    reporter.advance(40)
    # 0.5 s a step: 60 steps, a validation of 30 steps at a third of that; then one epoch of both.
    assert uploads.all[-1].eta_sec == pytest.approx(60 * 0.5 + 30 * 0.5 / 3 + 100 * 0.5 + 30 * 0.5 / 3)
    reporter.enter("validating", epoch=1, steps=30)
    clock[0] += 12.0
    reporter.advance(10)
    assert uploads.all[-1].eta_sec == pytest.approx(20 * 1.2 + 100 * 0.5 + 30 * 1.2)
    reporter.enter("done", epoch=2)
    assert uploads.all[-1].eta_sec == 0.0


def test_the_best_epoch_and_bad_clips_are_told(clock):
    uploads, reporter = make()
    reporter.best_is(EpochResult(1, (HeadResult("action-label", 70.0, 1.0),), 1.0, 70.0))
    reporter.bad_clips = 3
    reporter.enter("saving", epoch=1)
    assert (uploads.all[-1].best_epoch, uploads.all[-1].best_accuracy_percent, uploads.all[-1].bad_clips) == (
        1,
        70.0,
        3,
    )


def test_an_attempt_that_begins_shows_how_far_the_one_before_was_until_it_knows_better(clock):
    uploads, reporter = make()
    reporter.starts(None)
    assert (uploads.all[-1].phase, uploads.all[-1].epoch, uploads.all[-1].best_epoch) == ("starting", 0, None)
    reporter.best_is(EpochResult(1, (HeadResult("action-label", 70.0, 1.0),), 1.0, 70.0))
    reporter.enter("training", epoch=2, steps=100)
    before = uploads.all[-1]
    uploads, reporter = make()
    reporter.starts(before)
    shown = uploads.all[-1]
    assert (shown.phase, shown.epoch, shown.step, shown.best_epoch, shown.best_accuracy_percent) == (
        "starting", 2, 0, 1, 70.0,
    )  # fmt: skip
    reporter.best_is(None)
    reporter.enter("training", epoch=0, steps=100)
    assert (uploads.all[-1].epoch, uploads.all[-1].best_epoch) == (0, None)


def test_a_terminal_gets_a_bar_that_is_cleared_at_the_end_of_a_phase(clock, caplog):
    terminal = Terminal()
    _, reporter = make(terminal)
    with caplog.at_level(logging.INFO):
        reporter.enter("training", epoch=0, steps=100)
        clock[0] += 11.0
        reporter.advance(50, loss=0.25)
        reporter.leave()
    text = terminal.getvalue()
    assert "[###############...............] training epoch 0: step 50 of 100, loss 0.2500" in text
    assert text.endswith("\r\x1b[K")
    assert caplog.text == ""


def test_a_log_gets_plain_lines(clock, caplog):
    stream = io.StringIO()
    _, reporter = make(stream)
    with caplog.at_level(logging.INFO):
        reporter.enter("training", epoch=0, steps=100)
        clock[0] += 10.0
        reporter.advance(50, loss=0.25)
    assert stream.getvalue() == ""
    assert "training epoch 0: step 50 of 100, loss 0.2500, 160.0 clips/s, 0:00:" in caplog.text
