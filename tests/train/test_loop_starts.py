"""Where a run starts: from checkpoints of its own, of others and of the original; when it may not."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.train.original_system import build as build_original
from tests.train.worlds import STEPS, StopAt, config_for, final_weights, run_of, same_weights, train_here
from tsp.errors import (
    ConfigError,
    DataError,
    TerminatedError,
)
from tsp.train import checkpoint
from tsp.train.attempt import GaveUpError


def test_attempts_are_bounded(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, max_attempts=2)
    for _ in range(2):
        with pytest.raises(TerminatedError):
            train_here(config, stop=StopAt(3))
    run = run_of(config)
    log = "2026-01-01T00:00:00.000Z rank 0 {} {}\n"
    lines = log.format("ERROR", "rank 1 ended: its card failed") + log.format("INFO", "the end")
    run.store.write(run.log_key(2, 0), lines.encode())
    with pytest.raises(GaveUpError, match="attempt 3 of 2"):
        train_here(config)
    outcome = run.read_outcome()
    assert outcome.state == "failed"
    assert outcome.reason.startswith("rank 1 ended: its card failed; attempt 3 of 2")


def test_a_run_resumes_from_a_checkpoint_of_another_run(uninterrupted, tiny_data, tmp_path):
    source = uninterrupted.store.local_path("run/epoch_0.pth")
    run = train_here(config_for(tiny_data, tmp_path, resume=str(source)))
    assert list(run.results()) == [1, 2]
    assert same_weights(final_weights(run, 2), final_weights(uninterrupted, 2))


@pytest.mark.parametrize("resumes", [True, False])
def test_a_given_start_epoch_moves_the_schedule(uninterrupted, tiny_data, tmp_path, resumes):
    source = str(uninterrupted.store.local_path("run/epoch_0.pth")) if resumes else None
    run = train_here(config_for(tiny_data, tmp_path, resume=source, start_epoch=2))
    content = checkpoint.read(run.store.local_path("run/epoch_2.pth"))
    assert content["lr_scheduler"]["last_epoch"] == 3 * STEPS


def with_actions(tiny_data, folder, *names):
    """The same data set with another label map."""
    data = shutil.copytree(tiny_data, folder)
    (data / "actions.json").write_text(json.dumps(names))
    return data


@pytest.mark.parametrize("epoch_without_results", [False, True])
def test_classes_that_have_other_numbers_than_before_are_refused(
    uninterrupted, tiny_data, tmp_path, epoch_without_results
):
    """The weights of a class would be trained for another one."""
    store = shutil.copytree(uninterrupted.store.uri, tmp_path / "store")
    for name in ("outcome.json", *(["epoch_1.json", "epoch_2.json", "epoch_2.pth"] * epoch_without_results)):
        (Path(store) / "run" / name).unlink()
    data = with_actions(tiny_data, tmp_path / "data", "checks", "stripes", "rings")
    words = r"class 0 of action-label was 'stripes' when .*/epoch_\d\.pth was trained, but is 'checks' in the label map"
    with pytest.raises(DataError, match=words):
        train_here(config_for(data, store))
    assert ("epoch_1.json" in os.listdir(store / "run")) is not epoch_without_results
    with pytest.raises(DataError, match=words):
        train_here(config_for(data, tmp_path / "new", resume=str(store / "run/epoch_0.pth")))


def test_classes_of_other_names_and_other_clips_are_warned_about(uninterrupted, tiny_data, tmp_path, caplog):
    data = with_actions(tiny_data, tmp_path / "data", "Stripes", "checks", "rings")
    for table in data.glob("*.csv"):
        table.write_text(table.read_text().replace("stripes", "Stripes"))
    source = uninterrupted.store.local_path("run/epoch_1.pth")
    train_here(config_for(data, tmp_path / "store", resume=str(source), clips__crop_px=28))
    assert "class 0 of action-label was 'stripes' when " in caplog.text
    assert f"{source} was trained with clips.crop_px=32" in caplog.text


def test_a_checkpoint_trained_to_the_end_leaves_nothing_to_do(uninterrupted, tiny_data, tmp_path):
    source = uninterrupted.store.local_path("run/epoch_2.pth")
    with pytest.raises(ConfigError, match=r"already trained for 3 epochs.*--epochs"):
        train_here(config_for(tiny_data, tmp_path, resume=str(source)))


def test_a_checkpoint_of_the_original_system_is_resumed_with_its_own_schedule(tiny_data, tmp_path, caplog):
    model, optimizer, scheduler = build_original()
    content = checkpoint.snapshot(model, optimizer, scheduler, epoch=0, args=None)
    source = checkpoint.write(content, tmp_path / "epoch_0.pth")
    run = train_here(
        config_for(tiny_data, tmp_path / "store", resume=str(source), model__gvf="none", schedule__epochs=2)
    )
    state = checkpoint.read(run.store.local_path("run/epoch_1.pth"))["lr_scheduler"]
    assert (state["base_lrs"], state["milestones"]) == ([0, 1e-2, 4e-2], [12, 18])
    assert f"the optimizer and its schedule are those of {source}, not " in caplog.text


def test_another_configuration_under_the_same_name_is_refused(uninterrupted, tiny_data, tmp_path):
    # A copy: the run of the other tests must stay finished, whatever their order.
    store = shutil.copytree(uninterrupted.store.uri, tmp_path / "store")
    config = config_for(tiny_data, store, seed=43)
    run_of(config).store.delete("run/outcome.json")
    with pytest.raises(ConfigError, match="seed = 42, not 43"):
        train_here(config)
