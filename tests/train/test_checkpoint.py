"""Checkpoints: to and from the original system, whole or not at all, never trusted."""

import argparse
import dataclasses
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from tests.limits import files_of_at_most
from tests.train import original_system
from tests.train.original_system import STEPS_PER_EPOCH, train_step
from tsp.config.run import OptimConfig, RunConfig, ScheduleConfig
from tsp.config.sizing import EffectiveSizes
from tsp.errors import ConfigError, StoreError
from tsp.model.heads import HeadSpec, TspModel
from tsp.train import checkpoint
from tsp.train.schedule import build_optimizer, build_scheduler, group_rates

SIZES = EffectiveSizes(
    downscale=1, world_size=1, batch_per_gpu=4, global_batch=4, backbone_lr=1e-2, head_lr=4e-2, stem_lr=0.0
)


def build(seed=1, num_classes=3):
    torch.manual_seed(seed)
    heads = [
        HeadSpec(label_column="action-label", num_classes=num_classes),
        HeadSpec(label_column="region", num_classes=2),
    ]
    model = TspModel("tiny", heads)
    optimizer = build_optimizer(model, SIZES, OptimConfig())
    return model, optimizer, build_scheduler(optimizer, ScheduleConfig(), num_steps=STEPS_PER_EPOCH)


def in_a_process_of_its_own(function, *arguments):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(function, *arguments).result()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Folder with checkpoints of the original, and what it went on to from there."""
    folder = tmp_path_factory.mktemp("originals")
    return folder, in_a_process_of_its_own(original_system.save, folder)


def went_on(model, optimizer, scheduler):
    rates = []
    for number in range(STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH):
        rates.append([group["lr"] for group in optimizer.param_groups])
        train_step(model, optimizer, scheduler, number)
    return rates, sums(model)


def sums(model):
    return {name: value.double().sum().item() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["zip.pth", "old.pth"])
def test_a_checkpoint_of_the_original_resumes_here_with_the_same_rates_and_weights(originals, name):
    folder, expected = originals
    parts = build()
    content = checkpoint.read(folder / name)
    checkpoint.restore(content, *parts, where=name)
    assert (content["epoch"], content["args"].backbone) == (0, "tiny")
    assert {group["fused"] for group in parts[1].param_groups} == {True}
    rates, weights = went_on(*parts)
    assert rates == expected["rates"]
    assert weights == pytest.approx(expected["weights"], rel=1e-5, abs=1e-6)


def test_our_checkpoint_resumes_in_the_original_with_the_same_rates_and_weights(tmp_path):
    parts = build()
    for number in range(STEPS_PER_EPOCH):
        train_step(*parts, number)
    content = checkpoint.snapshot(*parts, epoch=0, args=argparse.Namespace(backbone="tiny"))
    path = checkpoint.write(content, tmp_path / "epoch_0.pth")
    theirs = in_a_process_of_its_own(original_system.resume, path)
    rates, weights = went_on(*parts)
    assert (theirs["epoch"], theirs["backbone"], theirs["rates"]) == (0, "tiny", rates)
    assert theirs["weights"] == pytest.approx(weights, rel=1e-5, abs=1e-6)


def test_a_written_and_read_checkpoint_goes_on_bit_for_bit(tmp_path):
    straight = build()
    train_step(*straight, 0)
    content = checkpoint.snapshot(*straight, epoch=0, args=argparse.Namespace())
    path = checkpoint.write(content, tmp_path / "epoch_0.pth")
    assert list(tmp_path.iterdir()) == [path]
    resumed = build(seed=2)
    checkpoint.restore(checkpoint.read(path), *resumed, where=str(path))
    for number in range(1, 4):
        train_step(*straight, number)
        train_step(*resumed, number)
    for name, value in straight[0].state_dict().items():
        assert torch.equal(resumed[0].state_dict()[name], value), name
    assert group_rates(resumed[1]) == group_rates(straight[1])


def test_a_parameter_that_was_not_trained_before_starts_with_a_momentum_of_zero():
    parts = build()
    train_step(*parts, 0)
    content = checkpoint.snapshot(*parts, epoch=0, args=argparse.Namespace())
    torch.manual_seed(1)
    model = TspModel("tiny", parts[0].heads)
    sizes = dataclasses.replace(SIZES, stem_lr=1e-3)
    optimizer = build_optimizer(model, sizes, OptimConfig())
    checkpoint.restore(
        content, model, optimizer, build_scheduler(optimizer, ScheduleConfig(), num_steps=3), where="epoch_0.pth"
    )
    stem = model.features.stem[0].weight
    assert torch.equal(optimizer.state[stem]["momentum_buffer"], torch.zeros_like(stem))
    (model(torch.randn(4, 3, 8, 32, 32))[0].sum()).backward()
    optimizer.step()
    assert not torch.equal(optimizer.state[stem]["momentum_buffer"], torch.zeros_like(stem))


def test_saving_a_state_of_the_largest_encoder_holds_training_up_for_less_than_one_percent_of_the_time_between_two():
    torch.manual_seed(0)
    model = TspModel("r2plus1d_34", [HeadSpec(label_column="action-label", num_classes=200)])
    optimizer = build_optimizer(model, SIZES, OptimConfig())
    scheduler = build_scheduler(optimizer, ScheduleConfig(), num_steps=3)
    started = time.process_time()
    content = checkpoint.snapshot(model, optimizer, scheduler, epoch=0, args=argparse.Namespace())
    took_sec = time.process_time() - started
    assert len(content["optimizer"]["state"]) > 100
    (every_sec,) = (item.default for item in dataclasses.fields(RunConfig) if item.name == "state_every_sec")
    assert (every_sec, took_sec < 0.01 * every_sec) == (600.0, True), took_sec


def test_training_on_does_not_change_a_snapshot():
    parts = build()
    train_step(*parts, 0)
    content = checkpoint.snapshot(*parts, epoch=0, args=argparse.Namespace())
    before = {name: value.clone() for name, value in content["model"].items()}
    momentum = content["optimizer"]["state"][3]["momentum_buffer"].clone()
    rate = content["lr_scheduler"]["last_epoch"]
    train_step(*parts, 1)
    assert all(torch.equal(content["model"][name], value) for name, value in before.items())
    assert torch.equal(content["optimizer"]["state"][3]["momentum_buffer"], momentum)
    assert content["lr_scheduler"]["last_epoch"] == rate


def test_a_full_disk_leaves_the_old_checkpoint_and_says_what_to_do(tmp_path):
    path = checkpoint.write({"epoch": 0}, tmp_path / "epoch_0.pth")
    before = path.read_bytes()
    refused = pytest.raises(StoreError, match=r"cannot write a checkpoint, .*epoch_0\.pth would be larger .*TMPDIR")
    with files_of_at_most(4096), refused:
        checkpoint.write({"model": torch.zeros(100_000)}, path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["epoch_0.pth"]


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    content = checkpoint.snapshot(*build(), epoch=0, args=argparse.Namespace(evil=RunsCode(tmp_path / "ran")))
    path = checkpoint.write(content, tmp_path / "epoch_0.pth")
    with pytest.raises(ConfigError, match="refused"):
        checkpoint.read(path)
    assert not (tmp_path / "ran").exists()


def test_weights_alone_are_no_checkpoint_to_resume_from(tmp_path):
    path = checkpoint.write({"model": {}}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"lacks optimizer, lr_scheduler, epoch; .*--pretrained"):
        checkpoint.read(path)


def test_a_checkpoint_of_other_heads_is_refused_by_name():
    content = checkpoint.snapshot(*build(num_classes=5), epoch=0, args=argparse.Namespace())
    with pytest.raises(ConfigError, match=r"epoch_0\.pth was made by another model"):
        checkpoint.restore(content, *build(), where="epoch_0.pth")
