"""How much of its time a run waits for clips: measured, shown, and told once with its cure."""

import logging
import threading
import types

import pytest

from tests.train.worlds import config_for, train_here
from tsp.data.dataset import ClipDataset
from tsp.errors import StalledError, exit_code_of
from tsp.run.uploader import Uploader
from tsp.train import loop, progress, watchdog
from tsp.train.data_wait import DataWait
from tsp.train.step import Stepper
from tsp.train.stop_signal import Stop


def test_waiting_is_added_up_and_nothing_else(monkeypatch):
    readings = iter((10.0, 12.0, 50.0, 51.0))
    monkeypatch.setattr("tsp.train.data_wait.time", types.SimpleNamespace(monotonic=lambda: next(readings)))
    wait = DataWait()
    for _ in range(2):
        with wait():
            pass
    assert wait.total_sec == 3.0


def test_a_data_path_that_stands_still_is_told_and_ends_the_rank_to_be_tried_again(monkeypatch):
    """The training thread is in a read that nothing interrupts, as of a file server that is gone."""
    monkeypatch.setattr(watchdog, "LOOK_EVERY_SEC", 0.02)
    monkeypatch.setattr(watchdog, "NOTICE_SEC", 0.05)
    monkeypatch.setattr(watchdog, "GRACE_SEC", 0.05)
    noticed, ended, last_words = [], threading.Event(), []
    dog = watchdog.Watchdog(Stop(), end=lambda code: (last_words.append(code), ended.set()))
    dog.on_notice = noticed.append
    dog.last_words.append(last_words.append)
    dog.start()
    words = r"gave up waiting for clips after 0 s \(data.batch_deadline_sec\)"
    with pytest.raises(StalledError, match=words), DataWait(dog, limit_sec=0.2)():
        assert ended.wait(600)
    assert noticed == ["clips"]
    assert [type(last_words[0]), last_words[1]] == [StalledError, exit_code_of(StalledError(""))]
    assert last_words[1] >= 128


@pytest.mark.parametrize(("busy_share", "warned"), [(0.3, True), (1.0, False)])
def test_a_slow_data_path_is_shown_and_told_once_with_its_cure(
    tiny_data, tmp_path, monkeypatch, caplog, busy_share, warned
):
    monkeypatch.setattr(loop, "LEAST_JUDGED_SEC", 0.0)
    monkeypatch.setattr(loop, "BUSY_SHARE", busy_share)
    monkeypatch.setattr(progress, "EVERY_SEC", 0.0)
    published, now = [], [0.0]
    for module in ("data_wait", "loop", "progress"):
        monkeypatch.setattr(f"tsp.train.{module}.time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def taking(seconds, real):
        """By a clock of the test's own, whatever a busy machine takes."""

        def call(*args, **options):
            now[0] += seconds
            return real(*args, **options)

        return call

    monkeypatch.setattr(ClipDataset, "_read_batch", taking(2.0, ClipDataset._read_batch))
    monkeypatch.setattr(Stepper, "__call__", taking(3.0, Stepper.__call__))
    monkeypatch.setattr(Uploader, "submit_progress", lambda self, found: published.append(found))
    with caplog.at_level(logging.INFO):
        train_here(config_for(tiny_data, tmp_path, schedule__epochs=2))
    shares = [found.data_wait_share for found in published if found.phase == "training" and found.step]
    assert shares
    assert all(share == pytest.approx(0.4, abs=0.001) for share in shares)
    assert all(found.data_wait_share is None for found in published if found.phase != "training")
    lines = [record.message for record in caplog.records if "data wait is" in record.message]
    assert len(lines) == warned
    assert all("write training copies" in line for line in lines)
    assert sum("waited for clips" in record.message for record in caplog.records) == 2
