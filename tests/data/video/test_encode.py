"""Writing videos: what is drawn twice is the same file."""

import hashlib
from fractions import Fraction

import av
import pytest
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


def test_a_video_is_written_at_thirty_frames_a_second_with_the_quality_of_the_demo_unless_told_otherwise(tmp_path):
    frames = [numbered_frame(number, 96, 64) for number in range(10)]
    assert write_video(tmp_path / "a.mp4", frames) == 10
    assert b"crf=20.0" in (tmp_path / "a.mp4").read_bytes()
    assert write_video(tmp_path / "b.mp4", frames, fps=Fraction(25, 2), crf=0, options={"g": "1"}) == 10
    for name, fps, num_keys in (("a.mp4", 30, 1), ("b.mp4", Fraction(25, 2), 10)):
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
        assert (stream.average_rate, stream.width, stream.height) == (fps, 96, 64)
        assert sorted(packet.pts * packet.time_base * fps for packet in packets) == list(range(10))
        assert sum(packet.is_keyframe for packet in packets) == num_keys


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "a video needs at least one frame"),
        ([(65, 48)], "H.264 needs an even size, got 65x48"),
        ([(64, 47)], "H.264 needs an even size, got 64x47"),
        ([(64, 48), (64, 48), (64, 50)], r"frame 2 is \(50, 64, 3\), the first one was \(48, 64, 3\)"),
    ],
)
def test_frames_that_make_no_video_are_refused_and_leave_no_file(tmp_path, sizes, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "a.mp4", [numbered_frame(0, *size) for size in sizes])
    assert list(tmp_path.iterdir()) == []
