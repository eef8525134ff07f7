"""Input is prepared beside the computing: what is handed over is waited for and kept, and a CPU notices nothing."""

import pytest
import torch

from tests.model.streams import Races
from tests.model.streams import races as races
from tsp.model.side_stream import SideStream

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_happens():
    side = SideStream(CPU)
    with side():
        tensor = torch.ones(2)
    side.hand_over(tensor, None)
    assert tensor.sum() == 2


def test_what_is_handed_over_may_be_read(races: Races):
    side = SideStream(CPU)
    with side():
        tensor, view = torch.ones(2), torch.ones(4)[:2]
    side.hand_over(tensor, view, None)
    assert torch.equal(tensor + view, torch.full((2,), 2.0))


def test_what_is_not_handed_over_or_written_later_is_a_race(races: Races):
    side = SideStream(CPU)
    with side():
        tensor, other = torch.ones(2), torch.ones(2)
    with pytest.raises(AssertionError, match="main stream reads what the side stream wrote before it has waited"):
        tensor + 1
    side.hand_over(tensor)
    with pytest.raises(AssertionError, match="whose memory may be reused"):
        other + 1
    with side():
        tensor.add_(1)
    with pytest.raises(AssertionError, match="before it has waited"):
        tensor + 1
