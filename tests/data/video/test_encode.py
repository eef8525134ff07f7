"""Writing videos: what is drawn twice is the same file."""

import hashlib

import torch

from tests.videos import numbered_frame
from tsp.data.video.encode import write_video


def test_the_same_frames_make_the_same_bytes_whatever_was_written_before(tmp_path):
    # x264's macroblock tree made others in one file of twenty, in processes that had loaded torch
    assert torch.zeros(1).item() == 0
    frames = [numbered_frame(number, 96, 64) for number in range(40)]
    # Of another size and content, as a program that writes many has just written.
    others = [[numbered_frame(k, *size) for k in range(20)] for size in ((98, 66), (640, 360), (128, 72))]
    made = set()
    for number in range(60):
        write_video(tmp_path / "other.mp4", others[number % 3])
        assert write_video(tmp_path / "a.mp4", frames) == len(frames)
        made.add(hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest())
    assert len(made) == 1
    # sixty alike prove little; x264 writes its settings into the file
    assert b"mbtree=0" in (tmp_path / "a.mp4").read_bytes()
