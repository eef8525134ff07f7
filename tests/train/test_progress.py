"""What is said while a run goes on: progress.json, a bar on a terminal, lines elsewhere."""

import io
import logging

import pytest

from tsp.config.sizing import EffectiveSizes
from tsp.run.results import EpochResult, HeadResult
from tsp.train import progress
from tsp.train.data_wait import DataWait
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


def test_a_bar_is_drawn_five_times_a_second_at_most_and_full_at_the_end(clock):
    terminal = Terminal()
    _, reporter = make(terminal)
    reporter.enter("training", epoch=0, steps=4)
    drawn = []
    for step, sec in ((1, 0.2), (2, 0.1), (3, 0.1), (4, 0.25)):
        before = len(terminal.getvalue())
        clock[0] += sec
        reporter.advance(step)
        drawn.append(terminal.getvalue()[before:])
    bars = [text[text.index("[") + 3 :].partition("]")[0][-30:] if text else "" for text in drawn]
    assert bars == ["#" * 7 + "." * 23, "", "#" * 22 + "." * 8, "#" * 30]


def test_a_phase_without_steps_has_an_empty_bar(clock):
    terminal = Terminal()
    _, reporter = make(terminal)
    reporter.enter("saving", epoch=0)
    clock[0] += 1.0
    reporter.advance(0)
    assert f"[{'.' * 30}] saving epoch 0: step 0 of 0" in terminal.getvalue()


def test_the_share_of_time_that_is_waited_for_data_is_of_the_last_seconds(clock):
    uploads, reporter = make()
    wait = DataWait()
    reporter.enter("training", epoch=0, steps=100, wait=wait)
    shares = []
    for waited_sec in (2.0, 8.76543):
        clock[0] += 10.0
        wait.total_sec += waited_sec
        reporter.advance(len(shares) + 1)
        shares.append(uploads.all[-1].data_wait_share)
    assert shares == [0.2, 0.877]
    reporter.enter("validating", epoch=0, steps=10)
    assert uploads.all[-1].data_wait_share is None


def test_an_attempt_of_fewer_epochs_than_the_one_before_shows_its_last(clock):
    uploads, reporter = make()
    reporter.enter("done", epoch=3)
    later, again = make()
    again.starts(uploads.all[-1])
    assert later.all[-1].epoch == PLAN.epochs - 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0:00:00"), (59.6, "0:01:00"), (3599, "0:59:59"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_time_left_is_shown_in_hours_minutes_and_seconds(seconds, shown):
    assert progress._clock(seconds) == shown
