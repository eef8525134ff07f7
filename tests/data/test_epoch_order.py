"""Order and chance: functions of (seed, epoch, item), for any number of ranks."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsp.config.run import ClipConfig
from tsp.data import epoch_order
from tsp.data.epoch_order import mixed_steps, steps_from, training_batches, validation_batches
from tsp.data.randomness import MAX_DRAWS, draw_training, draw_validation, random_numbers, start_of

CLIPS = ClipConfig()
SIZES = {"num_items": st.integers(1, 400), "batch": st.integers(1, 40), "world_size": st.integers(1, 9)}


@given(**SIZES, epoch=st.integers(0, 5))
def test_ranks_share_all_items_and_only_padding_occurs_twice(num_items, batch, world_size, epoch):
    ranks = [
        training_batches(num_items, batch, seed=1, epoch=epoch, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    seen = Counter(int(item) for batches in ranks for items in batches for item in items)
    assert set(seen) == set(range(num_items))
    assert sum(seen.values()) == -(-num_items // world_size) * world_size


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        return np.concatenate(training_batches(500, 32, seed=seed, epoch=epoch, rank=0, world_size=1)).tolist()

    orders = [order(1, 0), order(1, 1), order(2, 0)]
    assert order(1, 0) == orders[0]
    assert len({tuple(order) for order in orders}) == 3
    assert all(order != sorted(order) for order in orders)


@given(**SIZES)
def test_validation_deals_whole_batches_of_one_order_without_padding(num_items, batch, world_size):
    whole = [items.tolist() for items in validation_batches(num_items, batch, rank=0, world_size=1)]
    assert [item for items in whole for item in items] == list(range(num_items))
    for rank in range(world_size):
        mine = validation_batches(num_items, batch, rank=rank, world_size=world_size)
        assert [items.tolist() for items in mine] == whole[rank::world_size]


@settings(max_examples=40, deadline=None)
@given(
    num_segments=st.integers(1, 120),
    batch=st.integers(1, 40),
    world_size=st.integers(1, 5),
    buffer=st.integers(1, 100),
    start=st.floats(0, 1),
)
def test_mixed_batches_hold_every_clip_once_and_resume_anywhere(num_segments, batch, world_size, buffer, start):
    def steps(rank):
        return mixed_steps(
            num_segments, 5, batch, seed=3, epoch=1, rank=rank, world_size=world_size, buffer_clips=buffer
        )

    ranks = [steps(rank) for rank in range(world_size)]
    assert len({len(mine) for mine in ranks}) == 1
    seen = Counter(item for mine in ranks for step in mine for item in step.items)
    assert set(seen) == set(range(num_segments * 5))
    mine = ranks[0]
    first = int(start * (len(mine) - 1))
    resumed = steps_from(mine, first)
    assert [step.items for step in resumed] == [step.items for step in mine[first:]]
    have = set()
    read = Counter()
    for step in resumed:
        for group in step.groups:
            assert len({item % num_segments for item in group}) == 1
            read.update(group)
            have |= set(group)
        assert set(step.items) <= have
        have -= set(step.items)
    assert not have
    assert not read or max(read.values()) == 1


def test_mixed_batches_are_as_diverse_as_a_buffer_allows():
    steps = mixed_steps(2000, 5, 32, seed=0, epoch=0, rank=0, world_size=1)
    whole = [step for step in steps if len(step.items) == 32][:-12]
    same_segment = [32 - len({item % 2000 for item in step.items}) for step in whole]
    assert np.mean(same_segment) < 0.01
    # Clips of a segment do not come in neighbouring steps either: they spread over the buffer's ten batches and more.
    step_of = {item: number for number, step in enumerate(steps) for item in step.items}
    spread = [np.ptp([step_of[segment + 2000 * clip] for clip in range(5)]) for segment in range(2000)]
    assert np.mean(spread) > 10


def test_the_buffer_bounds_how_many_clips_wait():
    steps = mixed_steps(500, 5, 16, seed=0, epoch=0, rank=0, world_size=1, buffer_clips=100)
    waiting = most = 0
    for step in steps:
        waiting += sum(len(group) for group in step.groups)
        most = max(most, waiting)
        waiting -= len(step.items)
    assert most <= 100 + 5
    assert waiting == 0


def test_a_clips_chance_depends_on_seed_epoch_and_item_alone():
    draws = {
        key: draw_training(CLIPS, seed=key[0], epoch=key[1], item=key[2])
        for key in [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)]
    }
    assert len(set(draws.values())) == 4
    assert draws[1, 0, 1] == draw_training(CLIPS, seed=1, epoch=0, item=1)


def test_chance_is_spread_evenly():
    draws = [draw_training(CLIPS, seed=0, epoch=0, item=item) for item in range(4000)]
    assert 0.47 < np.mean([draw.crop.flip for draw in draws]) < 0.53
    assert {draw.crop.row for draw in draws} == set(range(17))
    assert {draw.crop.column for draw in draws} == set(range(60))
    shares = np.array([draw.shares for draw in draws])
    assert shares.shape == (4000, MAX_DRAWS)
    assert abs(shares.mean() - 0.5) < 0.01
    assert np.abs(np.corrcoef(shares, rowvar=False) - np.eye(MAX_DRAWS)).max() < 0.06


@pytest.mark.parametrize(("clip_number", "start_sec"), [(0, 11.4), (1, 11.833333333333334), (4, 13.133333333333333)])
def test_validation_clips_are_the_same_whatever_the_seed_unless_one_is_bad(clip_number, start_sec):
    draws = [draw_validation(CLIPS, seed=seed, item=7, clip_number=clip_number) for seed in (1, 2)]
    assert [start_of(draw, 0, 11.4, 14.2, CLIPS) for draw in draws] == [start_sec] * 2
    assert draws[0].shares[1:] != draws[1].shares[1:]


def test_no_two_streams_of_random_numbers_are_one(monkeypatch):
    drawn_from = []

    def record(seed, epoch, stream):
        drawn_from.append(stream)
        return random_numbers(seed, epoch, stream)

    monkeypatch.setattr(epoch_order, "random_numbers", record)
    world_size, num_segments, per_segment = 64, 128, 5
    for rank in range(world_size):
        mixed_steps(num_segments, per_segment, 8, seed=0, epoch=0, rank=rank, world_size=world_size)
        training_batches(num_segments, 8, seed=0, epoch=0, rank=rank, world_size=world_size)
    times = Counter(drawn_from)
    # The two orders are the same on all ranks; what is drawn from the buffer is each rank's own.
    assert sorted(times.values()) == [1] * world_size + [world_size] * 2
    assert not set(drawn_from) & set(range(num_segments * per_segment)), "the streams of the items"


@pytest.mark.parametrize("seed", [0, 7, -1, 2**63])
def test_random_numbers_are_philoxs_of_seed_stream_and_epoch(seed):
    """So a run goes on with the same clips under any later version."""
    key = [seed % 2**64, 3]
    expected = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64), counter=[0, 0, 0, 2]))
    assert random_numbers(seed, 2, 3).random(8).tolist() == expected.random(8).tolist()
