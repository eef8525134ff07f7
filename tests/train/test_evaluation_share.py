"""Shares of an evaluation, put together."""

import dataclasses
from types import SimpleNamespace

import pytest

from tests.config.test_run import make
from tsp.run.evaluation import EvaluationPart
from tsp.train.evaluation_share import joined, num_batches, num_clips, tally_of

FIRST = EvaluationPart(losses={"0": (1.5, 2.0), "2": (0.5, 1.0)}, counts=((1, 2), (0, 3)), bad_clips=1, clips_per_sec=4)
SECOND = EvaluationPart(losses={"1": (2.5, 3.0)}, counts=((10, 20), (30, 40)), bad_clips=2, clips_per_sec=0.5)


@pytest.mark.parametrize(
    ("segments", "per_segment", "batch", "clips", "batches"),
    [(4, 5, 10, 20, 2), (4, 5, 9, 20, 3), (4, 5, 19, 20, 2), (4, 5, 20, 20, 1), (1, 1, 32, 1, 1)],
)
def test_the_last_batch_may_be_smaller(segments, per_segment, batch, clips, batches):
    config = make(overrides={"clips.per_segment": per_segment, "batch_per_gpu": batch})
    data = SimpleNamespace(segments=range(segments))
    assert (num_clips(config, data), num_batches(config, data)) == (clips, batches)


def test_counts_are_added_up_and_batches_laid_side_by_side_in_either_order():
    whole = joined([FIRST, SECOND])
    assert whole == dataclasses.replace(
        FIRST, losses={**FIRST.losses, **SECOND.losses}, counts=((11, 22), (30, 43)), bad_clips=3, clips_per_sec=4.5
    )
    assert joined([SECOND, FIRST]) == whole
    assert joined([FIRST]) == FIRST


def test_a_whole_is_what_a_validation_of_all_batches_would_have_found():
    losses = {"0": (1.5, 1.0, 1.5), "2": (2.5, 0.0, 2.5)}
    tally = tally_of(EvaluationPart(losses=losses, counts=((1, 2, 3, 4, 5),), bad_clips=0, clips_per_sec=1), 3, [2])
    assert tally.losses.tolist() == [[1.5, 1.0, 1.5], [0.0, 0.0, 0.0], [2.5, 0.0, 2.5]]
    assert [counts.tolist() for counts in tally.counts] == [[1, 2, 3, 4, 5]]
