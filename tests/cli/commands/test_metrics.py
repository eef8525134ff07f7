"""``tspctl metrics``: a run's history as table, CSV and JSON, while it is written and afterwards."""

import csv
import io
import json
import threading
import time

import pytest

from cli.commands import metrics as command
from tsp.config.recipes import load_dataset, resolve
from tsp.errors import StoreUnreachableError
from tsp.run.metrics import MetricsLog
from tsp.run.records import Outcome, Progress
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore


@pytest.fixture
def run(tmp_path):
    run = StoredRun(LocalStore(tmp_path / "runs"), "first")
    run.create(resolve(load_dataset("thumos14"), "tac", name="first", store={"uri": str(tmp_path)}, root="/d"), None)
    return run


def write(run, attempt, *steps, start=0):
    log = MetricsLog(run, attempt)
    log.write("start", epoch=0, step=start, steps=10)
    for step in steps:
        log.write(
            "train", epoch=0, step=step, steps=10, loss=2.5 / step, losses={"action-label": 2.5 / step}, head_lr=2e-3
        )
    log.close()


@pytest.fixture
def metrics(tspctl, tmp_path):
    return lambda *words: tspctl("metrics", "first", "--backend", "local", "--store", tmp_path / "runs", *words)


def test_json_has_every_line_once_across_attempts(run, metrics):
    write(run, 1, 2, 4, 6)
    write(run, 2, 6, 8, start=4)
    done = metrics("-o", "json")
    assert done.code == 0, done.err
    assert [(line["step"], line["attempt"]) for line in done.json] == [(2, 1), (4, 1), (6, 2), (8, 2)]
    assert done.json[0]["loss.action-label"] == 1.25


def test_csv_has_a_column_for_each_value_of_training_and_validation(run, metrics):
    write(run, 1, 2, 4)
    log = MetricsLog(run, 2)
    log.write("start", epoch=1, step=0, steps=10)
    log.write("valid", epoch=1, loss=1.5, accuracy_percent=50.0, accuracies_percent={"action-label": 50.0}, losses={})
    log.close()
    rows = list(csv.DictReader(io.StringIO(metrics("-o", "csv").out)))
    assert [row["kind"] for row in rows] == ["train", "train", "valid"]
    assert (rows[0]["loss.action-label"], rows[2]["accuracy_percent.action-label"]) == ("1.25", "50.0")


def test_the_table_fits_the_terminal_and_names_its_columns(run, metrics):
    write(run, 1, 5)
    done = metrics()
    assert "CLIPS PER SEC" in done.out
    assert "0.5" in done.out


def test_last_leaves_out_what_is_older(run, metrics):
    write(run, 1, 5)
    key = run.key("metrics/attempt-1/00001.jsonl")
    run.store.write(key, run.store.read(key).replace(b'"time":"20', b'"time":"19'))
    write(run, 2, 8, start=5)
    assert [line["step"] for line in metrics("-o", "json", "--last", "10m").json] == [8]
    refused = metrics("--last", "soon")
    assert (refused.code, "Invalid value for --last: 'soon'" in refused.err) == (2, True)
    assert "no metrics: none were written since " in metrics("--last", "2999-01-01T00:00:00Z").err


def test_a_run_without_metrics_says_so(run, metrics):
    done = metrics()
    assert (done.code, done.out) == (0, "")
    assert "no metrics" in done.err
    assert metrics("-o", "json").json == []


def test_follow_prints_what_is_added_until_the_run_ends_and_ends_with_its_outcome(run, metrics, monkeypatch):
    monkeypatch.setattr(command, "POLL_SEC", 0.05)
    write(run, 1, 2)
    values = dict.fromkeys(("step", "steps", "clips_per_sec", "global_batch", "backbone_lr", "head_lr"), 1)
    sizes = {"attempt": 1, "world_size": 1, "downscale": 1, "batch_per_gpu": 1}
    run.write_progress(Progress(phase="training", epoch=0, epochs=1, eta_sec=None, **values, **sizes))

    def train():
        time.sleep(0.3)
        write(run, 2, 4, 6, start=2)
        run.write_outcome(Outcome(state="succeeded", exit_code=0, reason="all epochs", attempt=2))

    training = threading.Thread(target=train)
    training.start()
    done = metrics("-f", "-o", "json")
    training.join()
    assert done.code == 0
    assert [json.loads(line)["step"] for line in done.out.splitlines()] == [2, 4, 6]


def test_follow_goes_on_through_an_outage_of_the_store_and_says_so_once(run, metrics, monkeypatch):
    monkeypatch.setattr(command, "POLL_SEC", 0.0)
    monkeypatch.setattr("cli.runs.outcome.POLL_SEC", 0.0)
    write(run, 1, 2)
    answers = iter([False, None, None, True])

    def ended(found):
        answer = next(answers)
        if answer is None:
            raise StoreUnreachableError("the store does not answer")
        if answer:
            write(run, 2, 4, start=2)
            run.write_outcome(Outcome(state="succeeded", exit_code=0, reason="all epochs", attempt=2))
        return answer

    monkeypatch.setattr("cli.runs.outcome.has_ended", ended)
    done = metrics("-f", "-o", "json")
    assert done.code == 0, done.err
    assert [json.loads(line)["step"] for line in done.out.splitlines()] == [2, 4]
    assert done.err.count("the store does not answer; still trying") == 1


def test_a_store_that_does_not_answer_at_first_is_an_error(run, metrics, monkeypatch):
    def ended(found):
        raise StoreUnreachableError("the store does not answer")

    monkeypatch.setattr("cli.runs.outcome.has_ended", ended)
    assert metrics("-f").code == 5


def test_status_draws_the_curves_on_a_terminal_and_nowhere_else(run, tspctl, tmp_path, monkeypatch):
    write(run, 1, 1, 2, 4)
    words = ("status", "first", "--backend", "local", "--store", tmp_path / "runs")
    assert "Training loss" not in tspctl(*words).out
    monkeypatch.setattr("cli.commands.status._is_terminal", lambda: True)
    assert "Training loss" in (shown := tspctl(*words).out)
    assert "█▃▁ 2.5 -> 0.625" in shown
