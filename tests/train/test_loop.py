"""Whole runs of one rank: what they publish, and that any interruption leaves the same weights."""

import contextlib
import hashlib
import logging
import multiprocessing
import platform
import shutil
from pathlib import Path

import pytest
import torch

from tests.train.worlds import EPOCHS, STEPS, StopAt, config_for, final_weights, run_of, same_weights, train_here
from tsp.data.loader import ClipLoader
from tsp.errors import (
    FIRST_RETRIED_CODE,
    ConfigError,
    DataError,
    NonFiniteLossError,
    TerminatedError,
    TspError,
    exit_code_of,
)
from tsp.run.metrics import read_metrics
from tsp.run.results import format_line
from tsp.train import checkpoint
from tsp.train.progress import Reporter
from tsp.train.saver import Saver
from tsp.train.step import Stepper
from tsp.train.training_state import _check_compile


def test_a_run_publishes_every_epoch_once_and_says_that_it_succeeded(uninterrupted):
    records = uninterrupted.epochs()
    assert list(records) == list(range(EPOCHS))
    text = uninterrupted.store.read("run/results.txt").decode()
    assert text.splitlines() == [record.results_line for record in records.values()]
    assert [record.results_line for record in records.values()] == [
        format_line(record.result) for record in records.values()
    ]
    assert uninterrupted.read_outcome().state == "succeeded"
    assert uninterrupted.latest_state() is None
    assert uninterrupted.effective().global_batch == 4
    assert uninterrupted.read_progress().phase == "done"
    about = uninterrupted.about()
    assert about["versions"]["torch"] == torch.__version__
    assert about["machine"]["kernel"] == platform.release()
    csv = about["config"]["data"]["train"]["csv"]
    root = Path(about["config"]["data"]["root"])
    assert about["digests"][csv] == hashlib.sha256((root / csv).read_bytes()).hexdigest()


def test_checkpoints_hold_the_originals_keys_and_the_epoch(uninterrupted):
    content = checkpoint.read(uninterrupted.store.local_path("run/epoch_1.pth"))
    assert list(content) == ["model", "optimizer", "lr_scheduler", "epoch", "args"]
    assert content["epoch"] == 1
    assert content["lr_scheduler"]["last_epoch"] == 2 * STEPS
    assert content["args"].label_columns == ["action-label", "temporal-region-label"]
    assert [group["name"] for group in content["optimizer"]["param_groups"]] == ["stem", "backbone", "fc"]


def test_a_finished_run_is_not_trained_again(uninterrupted, caplog):
    config = uninterrupted.config()
    with caplog.at_level(logging.INFO):
        train_here(config)
    assert "already succeeded" in caplog.text
    assert uninterrupted.last_attempt() == 1


def test_tables_that_go_while_a_run_is_at_work_do_not_touch_it(uninterrupted, tiny_data, tmp_path, monkeypatch):
    """As with a store that restarts: tables are read when an attempt begins, and then no more."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    step = Stepper.__call__

    def step_without_tables(self, *args, **options):
        for table in data.glob("*.csv"):
            table.unlink()
        return step(self, *args, **options)

    monkeypatch.setattr(Stepper, "__call__", step_without_tables)
    run = train_here(config_for(data, tmp_path / "store"))
    assert not list(data.glob("*.csv"))
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("workers", [1, 2])
def test_data_workers_change_no_weight(uninterrupted, tiny_data, tmp_path, workers):
    run = train_here(config_for(tiny_data, tmp_path, data__workers=workers, schedule__epochs=EPOCHS))
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))


@pytest.mark.thorough
@pytest.mark.parametrize("asked", [1, 2, 3, 5, 6, 8, 9, 10, 14, 18, 24])
def test_a_run_told_to_stop_anywhere_ends_with_the_same_weights_and_results(uninterrupted, tiny_data, tmp_path, asked):
    config = config_for(tiny_data, tmp_path)
    with pytest.raises(TerminatedError) as caught:
        train_here(config, stop=StopAt(asked))
    assert caught.value.exit_code == 143
    assert run_of(config).read_outcome() is None
    run = train_here(config)
    assert run.last_attempt() == 2
    assert run.results() == uninterrupted.results()
    for epoch in range(EPOCHS):
        assert same_weights(final_weights(run, epoch), final_weights(uninterrupted, epoch))


def test_a_stop_in_the_middle_of_an_epoch_loses_no_step(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path)
    with pytest.raises(TerminatedError):
        train_here(config, stop=StopAt(4))
    meta = run_of(config).latest_state()
    assert (meta.epoch, meta.step) == (0, 3)


def test_a_run_stopped_at_every_step_gets_to_its_end(uninterrupted, tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, max_attempts=100)
    run, before, patience = run_of(config), None, 4
    while run.read_outcome() is None:
        with contextlib.suppress(TerminatedError):
            train_here(config, stop=StopAt(patience))
        reached = (run.latest_state(), list(run.epochs()))
        # A validation is not saved in its middle: it must fit between two stops.
        patience = 4 if reached != before else 2 * patience
        before = reached
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))
    assert run.results() == uninterrupted.results()
    assert history(run) == history(uninterrupted)


def history(run):
    """Each head's loss at each step, and the validations; means over several steps are taken apart no further."""
    lines = [line for line in read_metrics(run) if line["kind"] != "start"]
    return [(line["kind"], line["epoch"], line.get("step"), line["loss"], line["losses"]) for line in lines]


def test_the_history_has_every_step_and_the_figures_of_results(uninterrupted):
    lines = read_metrics(uninterrupted)
    train = [line for line in lines if line["kind"] == "train"]
    assert [(line["epoch"], line["step"], line["steps"]) for line in train] == [
        (epoch, step, STEPS) for epoch in range(EPOCHS) for step in range(1, STEPS + 1)
    ]
    for line in train:
        assert line["loss"] == pytest.approx(sum(line["losses"].values()), rel=1e-4)
        assert line["gradient_norm"] > 0
        assert line["clips_per_sec"] > 0
        assert 0 <= line["data_wait_share"] <= 1
        assert line["loss_scale"] == 1
    assert train[0]["head_lr"] < train[STEPS - 1]["head_lr"], "the warm-up"
    valid = [line for line in lines if line["kind"] == "valid"]
    assert [line["accuracy_percent"] for line in valid] == [
        result.avg_accuracy_percent for result in uninterrupted.results().values()
    ]


def test_states_saved_by_time_are_resumed_from_after_a_crash(uninterrupted, tiny_data, tmp_path, monkeypatch):
    config = config_for(tiny_data, tmp_path, state_every_sec=1e-9)
    saved = []
    real, real_epoch = Saver.save_state, Saver.save_epoch

    def save_epoch(self, content, make_record):
        real_epoch(self, content, make_record)
        self.drain()  # while it is being written, no state is saved

    def save_and_crash(self, content, *, epoch, step, attempt):
        real(self, content, epoch=epoch, step=step, attempt=attempt)
        self.drain()
        saved.append((epoch, step))
        if len(saved) == 6:
            raise ZeroDivisionError("as if the process had been killed")

    monkeypatch.setattr(Saver, "save_state", save_and_crash)
    monkeypatch.setattr(Saver, "save_epoch", save_epoch)
    with pytest.raises(ZeroDivisionError):
        train_here(config)
    assert saved[:5] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1)]
    monkeypatch.undo()
    run = train_here(config)
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))
    assert run.results() == uninterrupted.results()


def test_an_epoch_with_a_checkpoint_but_no_figures_is_validated_first(uninterrupted, tiny_data, tmp_path, caplog):
    config = config_for(tiny_data, tmp_path)
    run = train_here(config)
    for name in ("epoch_1.json", "epoch_2.json", "epoch_2.pth", "outcome.json", "results.txt"):
        run.store.delete(f"run/{name}")
    with caplog.at_level(logging.INFO):
        run = train_here(config)
    assert "epoch 1 has a checkpoint but no results" in caplog.text
    assert "begins at epoch 2, step 0" in caplog.text
    assert run.results() == uninterrupted.results()
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))


def test_a_damaged_checkpoint_without_figures_is_trained_again(uninterrupted, tiny_data, tmp_path, caplog):
    config = config_for(tiny_data, tmp_path)
    run = train_here(config)
    for name in ("epoch_2.json", "outcome.json"):
        run.store.delete(f"run/{name}")
    run.store.write("run/epoch_2.pth", b"half a file")
    run = train_here(config)
    assert "epoch 2 is trained again" in caplog.text
    assert run.results() == uninterrupted.results()
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))


def test_a_loss_that_is_not_finite_ends_the_run_for_good_and_leaves_the_last_checkpoint(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, schedule__warmup_epochs=0, optim__backbone_lr=1e30, optim__head_lr=1e30)
    with pytest.raises(NonFiniteLossError) as caught:
        train_here(config)
    message = str(caught.value)
    assert "in epoch 0, step " in message
    assert "train_0.mp4 at " in message or "train_1.mp4 at " in message
    outcome = run_of(config).read_outcome()
    assert (outcome.state, outcome.exit_code, outcome.reason) == ("failed", 3, message)


def go_wrong_at(monkeypatch, number):
    """From its step of that number on, a run's loss is NaN."""
    steps, real = [], Stepper._forward

    def forward(self, batch):
        steps.append(batch.names)
        losses, loss, is_bad = real(self, batch)
        if len(steps) > number:
            loss, is_bad = loss * float("nan"), torch.ones_like(is_bad)
        return losses, loss, is_bad

    monkeypatch.setattr(Stepper, "_forward", forward)
    return steps


def test_a_loss_that_goes_wrong_later_names_epoch_step_and_clips_and_the_last_good_checkpoint_stays(
    uninterrupted, tiny_data, tmp_path, monkeypatch
):
    config = config_for(tiny_data, tmp_path, state_every_sec=1e-9)
    monkeypatch.setattr(Saver, "is_busy", False)
    steps = go_wrong_at(monkeypatch, STEPS + 2)
    with pytest.raises(
        NonFiniteLossError, match=r"the loss is nan in epoch 1, step 2 .*the step was not taken"
    ) as caught:
        train_here(config)
    assert len(steps) == STEPS + 3
    assert all(name in str(caught.value) for name in steps[-1])
    assert exit_code_of(caught.value) < FIRST_RETRIED_CODE
    run = run_of(config)
    assert (list(run.epochs()), list(run.checkpoints())) == ([0], [0])
    assert same_weights(final_weights(run, 0), final_weights(uninterrupted, 0))
    state = checkpoint.read(run.store.local_path(run.key(run.latest_state().key)))
    assert (state["epoch"], state["progress"]["step"]) == (1, 2)
    monkeypatch.undo()
    run = train_here(config)
    assert run.results() == uninterrupted.results()
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))


def test_no_state_is_saved_in_passing_while_the_one_before_is_being_written(tiny_data, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Saver, "is_busy", True)
    monkeypatch.setattr(Saver, "save_state", lambda self, content, *, epoch, step, attempt: saved.append((epoch, step)))
    train_here(config_for(tiny_data, tmp_path, state_every_sec=1e-9, schedule__epochs=2))
    assert saved == [(0, STEPS), (1, STEPS)]  # those before a validation


@pytest.mark.parametrize(
    ("device", "there", "lacks"),
    [("cpu", "gcc", r"C\+\+ compiler"), ("cpu", "g++", None), ("cuda", "g++", "C compiler"), ("cuda", "gcc", None)],
)
def test_a_compiled_model_needs_the_compiler_of_its_device(monkeypatch, tiny_data, tmp_path, device, there, lacks):
    monkeypatch.setattr("tsp.train.training_state.shutil.which", lambda name: name if name == there else None)
    config = config_for(tiny_data, tmp_path, model__compile=True).model
    refused = pytest.raises(ConfigError, match=f"needs a {lacks}") if lacks else contextlib.nullcontext()
    with refused:
        _check_compile(config, torch.device(device))


def test_compiling_and_recomputing_do_not_go_together(tiny_data, tmp_path):
    changes = {"model__compile": True, "model__activation_checkpointing": True}
    with pytest.raises(ConfigError, match="choose one"):
        train_here(config_for(tiny_data, tmp_path, **changes))


def test_a_run_that_recomputes_its_activations_ends_with_the_same_weights(uninterrupted, tiny_data, tmp_path):
    run = train_here(config_for(tiny_data, tmp_path, model__activation_checkpointing=True))
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))
    assert run.results() == uninterrupted.results()


def test_too_many_bad_clips_end_the_run_and_name_the_file(tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "train" / "train_0.mp4").write_bytes(b"no video")
    config = config_for(data, tmp_path / "store")
    with pytest.raises(DataError, match=r"train_0\.mp4"):
        train_here(config)
    assert run_of(config).read_outcome().exit_code == 3


@pytest.mark.parametrize("where", ["tsp.train.step.Stepper._forward", "tsp.train.validate.Validator._forward"])
@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("FIND was unable to find an engine to execute this computation", 6, "larger --downscale"),
        ("CUDA error: uncorrectable ECC error encountered", 152, "another attempt"),
    ],
)
def test_a_gpus_error_in_training_and_validation_ends_with_its_code(
    tiny_data, tmp_path, monkeypatch, where, text, code, words
):
    def fail(*_, **__):
        raise RuntimeError(text)

    monkeypatch.setattr(where, fail)
    config = config_for(tiny_data, tmp_path)
    with pytest.raises(TspError, match=words) as caught:
        train_here(config)
    assert exit_code_of(caught.value) == code
    outcome = run_of(config).read_outcome()
    assert (None if outcome is None else outcome.exit_code) == (6 if code == 6 else None)


def test_the_next_epochs_data_workers_start_while_an_epoch_is_validated(
    tiny_data, tmp_path, uninterrupted, monkeypatch
):
    seen, started = [], []
    real_enter, real_start, real_iter = Reporter.enter, ClipLoader.start, ClipLoader.__iter__
    monkeypatch.setattr(
        Reporter, "enter", lambda self, phase, **given: (seen.append(phase), real_enter(self, phase, **given))[1]
    )

    def start(self, device):
        started.append((seen[-1], self.dataset.epoch, self))
        real_start(self, device)

    used = []
    monkeypatch.setattr(ClipLoader, "start", start)
    monkeypatch.setattr(ClipLoader, "__iter__", lambda self: (used.append(self), real_iter(self))[1])
    run = train_here(config_for(tiny_data, tmp_path / "store", data__workers=1))
    assert [entry[:2] for entry in started] == [("validating", epoch) for epoch in range(1, EPOCHS)]
    assert all(any(loader is item for item in used) for *_, loader in started)
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))


def test_workers_that_were_started_for_an_epoch_that_never_comes_are_ended(tiny_data, tmp_path, monkeypatch):
    def fail(self, content, make_record):
        raise DataError("not saved")

    monkeypatch.setattr(Saver, "save_epoch", fail)
    with pytest.raises(DataError, match="not saved"):
        train_here(config_for(tiny_data, tmp_path / "store", data__workers=1))
    assert not multiprocessing.active_children()
