"""What the other tests of this folder rest on: the same sums, each time and in each process."""

import torch

from tests.train.worlds import on_ranks


def num_threads(launch):
    return torch.get_num_threads()


def test_runs_in_this_process_and_in_others_use_as_many_threads():
    assert [torch.get_num_threads()] * 2 == [answer for answer, _ in on_ranks(2, num_threads)]
