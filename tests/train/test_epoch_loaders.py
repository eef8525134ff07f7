"""Which epoch's loader is started, when, and how often."""

from types import SimpleNamespace

import pytest
import torch

from tests.config.test_run import make
from tsp.train import epoch_loaders
from tsp.train.epoch_loaders import EpochLoaders
from tsp.train.resume import Position


class Loader:
    """In place of a loader: what it was built for, and what was done with it."""

    def __init__(self, subset, **options):
        self.subset, self.options, self.done = subset, options, []
        self.inference = torch.is_inference_mode_enabled()

    def start(self, device):
        self.done.append(f"started for {device.type}")

    def close(self):
        self.done.append("closed")


@pytest.fixture
def built(monkeypatch):
    """Loaders in the order in which they were built."""
    found = []

    def build(config, subset, **options):
        found.append(Loader(subset, **options))
        return found[-1]

    monkeypatch.setattr(epoch_loaders, "build_loader", build)
    monkeypatch.setattr(epoch_loaders, "load_subset", lambda config, subset: f"{subset} tables")
    return found


def loaders(device="cpu", epochs=3):
    return EpochLoaders(
        make(overrides={"schedule.epochs": epochs, "schedule.milestones": [1]}),
        SimpleNamespace(batch_per_gpu=8),
        SimpleNamespace(rank=1, world_size=2),
        SimpleNamespace(device=torch.device(device)),
    )


@pytest.mark.parametrize(("device", "pins"), [("cpu", False), ("cuda", True)])
def test_a_rank_builds_its_own_share_of_an_epoch(built, device, pins):
    loaders(device).build("valid", epoch=2, start_step=5)
    (loader,) = built
    assert (loader.subset, loader.options) == (
        "valid",
        {
            "batch": 8,
            "rank": 1,
            "world_size": 2,
            "epoch": 2,
            "start_step": 5,
            "pin_memory": pins,
            "data": "valid tables",
        },
    )


def test_the_next_epoch_is_started_once_and_taken_once(built):
    ours = loaders()
    with torch.inference_mode():
        ours.prepare(1)
        ours.prepare(1)
    (prepared,) = built
    assert (prepared.options["epoch"], prepared.done, prepared.inference) == (1, ["started for cpu"], False)
    assert ours.take(Position(epoch=1)) is prepared
    again = ours.take(Position(epoch=1, step=4))
    assert again is built[1]
    assert (again.options["epoch"], again.options["start_step"], again.done) == (1, 4, [])


@pytest.mark.parametrize(("epoch", "is_started"), [(2, True), (3, False), (4, False)])
def test_no_epoch_after_the_last_is_started(built, epoch, is_started):
    loaders(epochs=3).prepare(epoch)
    assert len(built) == is_started


def test_an_epoch_that_was_started_and_is_not_taken_is_closed(built):
    ours = loaders()
    ours.close()
    ours.prepare(1)
    ours.close()
    assert built[0].done == ["started for cpu", "closed"]
