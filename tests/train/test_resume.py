"""Where a run goes on, for everything that an attempt can leave behind."""

import argparse
import logging
import re
from types import SimpleNamespace

import pytest

from tests.train.worlds import StopAt, config_for, train_here
from tsp.config.sizing import EffectiveSizes
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, StoreError, TerminatedError
from tsp.run.records import EpochRecord, StateMeta
from tsp.run.results import EpochResult, HeadResult, format_line
from tsp.run.stored_run import StoredRun
from tsp.store.base import sha256_of
from tsp.store.open import open_store
from tsp.train import checkpoint
from tsp.train.resume import Position, Start, find_start, position_here, set_schedule, state_extras, unvalidated_epochs

STEPS = 10


@pytest.fixture
def run(tmp_path):
    return StoredRun(open_store(StoreConfig(uri=str(tmp_path / "store"))), "run")


@pytest.fixture
def config(tmp_path):
    return config_for(tmp_path, tmp_path / "store")


def content_of(epoch, mark):
    return {"model": {}, "optimizer": {}, "lr_scheduler": {}, "epoch": epoch, "mark": mark}


def publish_epoch(run, tmp_path, epoch):
    path = checkpoint.write(content_of(epoch, f"epoch {epoch}"), tmp_path / "epoch.pth")
    result = EpochResult(epoch, (HeadResult("action-label", 50.0, 1.0),), 1.0, 50.0)
    record = EpochRecord(
        epoch=epoch, size_bytes=path.stat().st_size, sha256=sha256_of(path), results_line=format_line(result),
        result=result, clips_per_sec=1.0, duration_sec=1.0,
    )  # fmt: skip
    run.publish_epoch(path, record)


def publish_state(run, tmp_path, epoch, step, extras=None):
    position = Position(epoch=epoch, step=step, num_steps=STEPS)
    content = content_of(epoch, f"state {epoch} {step}") | (extras or state_extras(position, {}))
    path = checkpoint.write(content, tmp_path / "state.pth")
    meta = StateMeta(epoch=epoch, step=step, attempt=1, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    return run.publish_state(path, meta)


def found(run, config, tmp_path):
    """What it goes on from, and the epoch, the step, and whether only validation is left."""
    start = find_start(run, config, tmp_path)
    mark = start.content["mark"] if start.content else None
    return mark, start.position.epoch, start.position.step, start.position.is_trained


def test_a_new_run_begins_at_the_beginning(run, config, tmp_path):
    assert found(run, config, tmp_path) == (None, 0, 0, False)


@pytest.mark.parametrize(
    ("epochs", "state", "expected"),
    [
        ([], (0, 4), ("state 0 4", 0, 4, False)),
        ([], (0, STEPS), ("state 0 10", 0, STEPS, True)),
        ([0, 1], (2, 4), ("state 2 4", 2, 4, False)),
        ([0, 1], (2, STEPS), ("state 2 10", 2, STEPS, True)),
        ([0, 1], (1, STEPS), ("state 1 10", 2, 0, False)),
        ([0, 1], (1, 4), ("epoch 1", 2, 0, False)),
        ([0, 1], (0, STEPS), ("epoch 1", 2, 0, False)),
        ([0, 1], None, ("epoch 1", 2, 0, False)),
    ],
)
def test_the_furthest_of_states_and_epochs_is_gone_on_from(run, config, tmp_path, epochs, state, expected):
    for epoch in epochs:
        publish_epoch(run, tmp_path, epoch)
    if state is not None:
        publish_state(run, tmp_path, *state)
    assert found(run, config, tmp_path) == expected


def test_a_state_that_is_no_state_is_passed_over(run, config, tmp_path, caplog):
    publish_epoch(run, tmp_path, 0)
    publish_state(run, tmp_path, 1, 4, extras={"something": "else"})
    assert found(run, config, tmp_path) == ("epoch 0", 1, 0, False)
    assert "the newest state is unusable" in caplog.text


def test_a_state_whose_file_was_damaged_falls_back_to_the_one_before(run, config, tmp_path):
    publish_state(run, tmp_path, 0, 3)
    meta = publish_state(run, tmp_path, 0, 6)
    path = run.store.local_path(run.key(meta.key))
    path.write_bytes(b"x" * path.stat().st_size)
    assert found(run, config, tmp_path) == ("state 0 3", 0, 3, False)


def test_a_published_epoch_whose_checkpoint_is_gone_is_an_error(run, config, tmp_path):
    publish_epoch(run, tmp_path, 0)
    run.store.delete("run/epoch_0.pth")
    with pytest.raises(StoreError, match="checkpoint of epoch 0"):
        find_start(run, config, tmp_path)


def test_the_runs_own_state_goes_before_the_checkpoint_it_was_told_to_resume_from(run, tmp_path):
    source = checkpoint.write(content_of(0, "elsewhere"), tmp_path / "elsewhere.pth")
    config = config_for(tmp_path, tmp_path / "store", resume=str(source))
    assert found(run, config, tmp_path) == ("elsewhere", 1, 0, False)
    publish_state(run, tmp_path, 1, 4)
    assert found(run, config, tmp_path) == ("state 1 4", 1, 4, False)


def test_a_start_epoch_goes_before_the_checkpoints(run, tmp_path):
    source = checkpoint.write(content_of(0, "elsewhere"), tmp_path / "elsewhere.pth")
    config = config_for(tmp_path, tmp_path / "store", resume=str(source), start_epoch=2)
    assert found(run, config, tmp_path) == ("elsewhere", 2, 0, False)


def test_a_file_that_is_no_checkpoint_is_refused(run, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"no checkpoint")
    config = config_for(tmp_path, tmp_path / "store", resume=str(tmp_path / "weights.pth"))
    with pytest.raises(ConfigError, match=r"weights\.pth"):
        find_start(run, config, tmp_path)


def test_epochs_without_figures_are_found_but_for_the_one_in_the_newest_state(run, tmp_path):
    publish_epoch(run, tmp_path, 0)
    for epoch in (1, 2):
        path = checkpoint.write(content_of(epoch, ""), tmp_path / "epoch.pth")
        run.publish_checkpoint(epoch, path, sha256=sha256_of(path))
    assert unvalidated_epochs(run) == [1, 2]
    publish_state(run, tmp_path, 2, STEPS)
    assert unvalidated_epochs(run) == [1]


def sizes(global_batch):
    return EffectiveSizes(
        downscale=1, world_size=1, batch_per_gpu=global_batch, global_batch=global_batch, backbone_lr=1.0, head_lr=1.0,
        stem_lr=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("position", "num_steps", "expected"),
    [
        (Position(epoch=1), 10, Position(epoch=1)),
        (Position(epoch=1, step=4, num_steps=10), 10, Position(epoch=1, step=4, num_steps=10)),
        (Position(epoch=1, step=4, num_steps=10), 20, Position(epoch=1, step=8, num_steps=20)),
        (Position(epoch=1, step=5, num_steps=10), 3, Position(epoch=1, step=1, num_steps=3)),
        (Position(epoch=1, step=10, num_steps=10), 3, Position(epoch=1, step=3, num_steps=3)),
    ],
)
def test_the_share_of_the_epoch_that_is_done_stays(position, num_steps, expected):
    assert position_here(Start(position=position), sizes(4), num_steps) == expected


class Schedule:
    """Notes where it is moved to."""

    def __init__(self):
        self.state, self.moves = dict(FRESH), []
        self.optimizer = SimpleNamespace(param_groups=[{name: FRESH[name] for name in ("momentum", "weight_decay")}])

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.moves.append(state)

    def move_to(self, iteration):
        self.moves.append(iteration)


FRESH = {"base_lrs": [1.0], "milestones": [4 * STEPS, 6 * STEPS], "gamma": 0.1, "warmup_iters": 2 * STEPS}
FRESH |= {"warmup_factor": 1e-5, "last_epoch": 2 * STEPS, "momentum": 0.9, "weight_decay": 0.005}


@pytest.mark.parametrize(
    ("is_own", "trained", "position", "moves"),
    [
        # of this run: the configuration's schedule, where the batch or the ranks are others now
        (True, {"world_size": 1, "batch_size": 4}, Position(epoch=2, step=3), []),
        (True, {"world_size": 1, "batch_size": 8}, Position(epoch=2, step=3), [FRESH, 2 * STEPS + 3]),
        (True, {"world_size": 2, "batch_size": 4}, Position(epoch=2, step=3), [FRESH, 2 * STEPS + 3]),
        (True, {}, Position(epoch=2), [FRESH, 2 * STEPS]),
        # from elsewhere: its own, moved where another epoch than its next was asked for
        (False, {}, Position(epoch=6), []),
        (False, {}, Position(epoch=5), [5 * STEPS]),
        (False, {}, Position(epoch=0), [0]),
    ],
)
def test_the_schedule_is_that_of_the_run_or_of_the_checkpoint_it_began_with(is_own, trained, position, moves):
    schedule = Schedule()
    start = Start(
        position=position, content={"epoch": 5, "args": argparse.Namespace(**trained)}, where="there", is_own=is_own
    )
    set_schedule(schedule, FRESH, start, position, sizes(4), STEPS)
    assert schedule.moves == moves


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, None),
        ({"base_lrs": [0.5]}, r"learning rates \[0\.5\], not \[1\.0\]"),
        (
            {"milestones": [8, 12]},
            rf"milestones in steps \({STEPS} an epoch here\) \[8, 12\], not \[{4 * STEPS}, {6 * STEPS}\]",
        ),
        ({"gamma": 0.5}, "gamma 0.5, not 0.1"),
        ({"momentum": 0.8}, "momentum 0.8, not 0.9"),
        ({"weight_decay": 0.1}, "weight decay 0.1, not 0.005"),
        ({"warmup_iters": 3 * STEPS}, f"steps of warm-up {3 * STEPS}, not {2 * STEPS}"),
        ({"warmup_iters": STEPS}, None),  # it is over
        ({"warmup_factor": 0.5}, None),
        ({"warmup_factor": 0.5, "last_epoch": 0}, "factor of warm-up 0.5, not 1e-05"),
        ({"gamma": 0.5, "base_lrs": [2.0]}, r"learning rates \[2\.0\], not \[1\.0\]; gamma 0\.5, not 0\.1"),
    ],
)
def test_settings_that_a_checkpoint_from_elsewhere_replaces_are_told(caplog, changes, warning):
    schedule = Schedule()
    schedule.state |= {name: value for name, value in changes.items() if name not in schedule.optimizer.param_groups[0]}
    schedule.optimizer.param_groups[0] |= {
        name: value for name, value in changes.items() if name in schedule.optimizer.param_groups[0]
    }
    start = Start(position=Position(epoch=6), content={"epoch": 5}, where="there")
    set_schedule(schedule, FRESH, start, start.position, sizes(4), STEPS)
    assert len(caplog.messages) == (warning is not None)
    if warning is not None:
        begin = "the optimizer and its schedule are those of there, not of this run's configuration: "
        assert re.match(f"{begin}{warning}; to begin with", caplog.messages[0])


def test_a_run_stopped_in_an_epoch_goes_on_at_the_step_it_had_reached(tiny_data, tmp_path, caplog):
    config = config_for(tiny_data, tmp_path, schedule__epochs=1)
    with pytest.raises(TerminatedError):
        train_here(config, stop=StopAt(4))
    with caplog.at_level(logging.INFO):
        train_here(config)
    assert "begins at epoch 0, step 3 of 4 from " in caplog.text
