"""How much of its time a run waits for clips: measured, shown, and told once with its cure."""

import logging
import types

import pytest

from tests.train.worlds import config_for, train_here
from tsp.data.dataset import ClipDataset
from tsp.run.uploader import Uploader
from tsp.train import loop, progress
from tsp.train.data_wait import DataWait
from tsp.train.step import Stepper


def test_waiting_is_added_up_and_nothing_else(monkeypatch):
    readings = iter((10.0, 12.0, 50.0, 51.0))
    monkeypatch.setattr("tsp.train.data_wait.time", types.SimpleNamespace(monotonic=lambda: next(readings)))
    wait = DataWait()
    for _ in range(2):
        with wait():
            pass
    assert wait.total_sec == 3.0


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
