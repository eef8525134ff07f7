"""The end of a run whose numbers are no numbers, from the reports of all ranks."""

from types import SimpleNamespace

import pytest

from tsp.errors import NonFiniteLossError
from tsp.train.non_finite import refuse


def refused(*ranks, here=0):
    """What rank ``here`` ends with, where ranks had these losses and clips, or None: their loss was finite."""
    loss, names = ranks[here] or (1.5, ("fine",))
    report = SimpleNamespace(loss=loss, names=names, bad_here=ranks[here] is not None, step=7)

    def gather(mine):
        assert mine == ranks[here]
        return list(ranks)

    with pytest.raises(NonFiniteLossError) as raised:
        refuse(SimpleNamespace(gather=gather), 3, report)
    return str(raised.value)


def test_the_first_rank_whose_loss_is_none_is_named_with_the_clips_of_all():
    ranks = [None, (float("nan"), ("a", "b")), None, (float("inf"), ("c",))]
    texts = {refused(*ranks, here=here) for here in range(4)}
    assert texts == {
        "the loss is nan in epoch 3, step 7 (rank 1): the step was not taken and the last checkpoint is kept; lower "
        "the learning rates or check these clips: a; b; c"
    }


def test_a_gradient_alone_that_is_not_finite_is_said_to_be_that():
    assert refused(None, None) == (
        "the gradient is not finite in epoch 3, step 7, although the loss is: the step was not taken; lower the "
        "learning rates, or use --precision fp32"
    )
