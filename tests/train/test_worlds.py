"""What the other tests of this folder rest on: the same data and the same sums, each time and in each process."""

import os
import socket
import sys
from multiprocessing import forkserver

import pytest
import torch

from tests.train.worlds import on_ranks, segments_of, write_clip_video


def test_the_videos_are_the_same_bits_each_time(tmp_path):
    made = []
    for number in range(3):
        write_clip_video(tmp_path / f"{number}.mp4", segments_of(0), seed=0)
        made.append((tmp_path / f"{number}.mp4").read_bytes())
    assert made[0] == made[1] == made[2]
    # Three alike prove little; x264 writes its settings into the file.
    assert b"rc=crf mbtree=0" in made[0]


def num_threads(launch):
    return torch.get_num_threads()


def test_runs_in_this_process_and_in_others_use_as_many_threads():
    assert [torch.get_num_threads()] * 2 == [answer for answer, _ in on_ranks(2, num_threads)]


def server_of(launch):
    return os.getppid()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="a server only listens to the process that started it")
def test_a_process_that_is_killed_while_it_starts_another_leaves_the_server_to_the_others():
    [(before, _)] = on_ranks(1, server_of)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.connect(forkserver._forkserver._forkserver_address)
    assert on_ranks(1, server_of) == [(before, None)]
