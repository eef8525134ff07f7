"""Batches on the device: prepared on a side stream, and handed over before the training step reads them."""

import pytest
import torch

from tests.model.streams import Races
from tests.model.streams import races as races
from tsp.data import transforms
from tsp.data.batch import ClipBatch
from tsp.model.side_stream import SideStream
from tsp.train.batches import on_device
from tsp.train.stop_signal import Stop

CPU = torch.device("cpu")


def batch_of(number):
    return ClipBatch(
        pixels=torch.full((2, 4, 16, 16, 4), number, dtype=torch.uint8),
        row_weights=torch.full((2, 8), 0.5),
        column_weights=torch.full((2, 8), 0.5),
        targets=torch.zeros(2, 1, dtype=torch.int64),
        gvf=torch.ones(2, 512),
        items=torch.arange(2),
        names=("a", "b"),
        num_bad=0,
    )


@pytest.fixture(autouse=True)
def fresh_constants():
    transforms.constants.cache_clear()
    yield
    transforms.constants.cache_clear()


def use(batch):
    return float(batch.clips.sum() + batch.gvf.sum() + batch.targets.sum())


def test_a_batch_is_blended_beside_the_step_and_handed_over(races: Races):
    batches = [batch_of(number) for number in range(3)]
    races.forget()
    values = [use(batch) for batch in on_device(batches, CPU, stop=Stop())]
    assert races.on_side > 20
    assert values == sorted(values)
    assert len(set(values)) == 3


def test_a_batch_that_is_not_handed_over_is_noticed(races: Races, monkeypatch):
    monkeypatch.setattr(SideStream, "hand_over", lambda self, *tensors: None)
    batches = [batch_of(1)]
    races.forget()
    with pytest.raises(AssertionError, match="main stream reads what the side stream wrote before it has waited"):
        use(next(iter(on_device(batches, CPU, stop=Stop()))))
