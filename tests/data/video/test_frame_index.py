"""Which frames of a file that lists them a clip has, from the list alone, and their bytes."""

from types import SimpleNamespace

import numpy as np
import pytest

from tsp.data.video.errors import VideoError
from tsp.data.video.frame_index import FrameIndex


class Entries(list):
    def search_timestamp(self, pts):
        return max((at for at, entry in enumerate(self) if entry.timestamp <= pts), default=-1)


def index_of(times, *, origin=0, without=()):
    """As of a file whose frames have these times; those left out were dropped by the writer."""
    found = FrameIndex.__new__(FrameIndex)
    sizes = [0 if at in without else 100 for at in range(len(times))]
    found._entries = Entries(SimpleNamespace(timestamp=t, size=s) for t, s in zip(times, sizes, strict=True))
    found._origin = origin
    return found


TEN = range(0, 100, 10)


@pytest.mark.parametrize(
    ("start_pts", "offsets", "numbers"),
    [
        (0, [0, 1, 2], [0, 1, 2]),
        (9, [0, 2, 4], [0, 2, 4]),
        (10, [0, 2, 4], [1, 3, 5]),
        (-5, [0, 1], [0, 1]),
        (0, [0, 9], [0, 9]),
        (0, [0, 10], None),
        (0, [0, 11], None),
        (0, [0, 500], None),
        (90, [0], [9]),
        (95, [0, 1], None),
        (60, [0, 3], [6, 9]),
        (60, [0, 4], None),
        (60, [0, 5], None),
    ],
)
def test_a_clip_begins_with_the_frame_on_screen_and_ends_within_the_file(start_pts, offsets, numbers):
    assert index_of(TEN).numbers(start_pts, offsets) == numbers
    assert index_of([1000 + time for time in TEN], origin=1000).numbers(start_pts, offsets) == numbers


@pytest.mark.parametrize(
    ("times", "without", "numbers"),
    [
        ([0, 10, 20, 30], (), [0, 1, 2]),
        ([0, 10, 10, 30], (), None),
        ([0, 10, 20, 20], (), None),
        ([0, 10, 20, 30, 30], (), [0, 1, 2]),
        ([0, 10, 5, 30], (), None),
        ([0, 10, 20, 30], (1,), None),
        ([0, 10, 20, 30, 40], (4,), [0, 1, 2]),
    ],
)
def test_frames_of_one_time_or_without_data_are_left_to_the_decoder(times, without, numbers):
    assert index_of(times, without=without).numbers(0, [0, 1, 2]) == numbers


HEIGHT, WIDTH = 2, 3
PIXELS = np.arange(1, HEIGHT * WIDTH * 3 + 1, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
RAW = PIXELS.tobytes()


@pytest.fixture
def opened(tmp_path):
    """Opens a file of one frame behind five other bytes, whose decoder puts out these pictures."""

    def make(data=RAW, size=None, codec="rawvideo", pixels="rgb24", decoded=()):
        path = tmp_path / "a.train.mov"
        path.write_bytes(b"12345" + data)
        entry = SimpleNamespace(pos=5, size=len(data) if size is None else size, timestamp=0)
        codec_context = SimpleNamespace(name=codec, decode=lambda packet: list(decoded))
        stream = SimpleNamespace(
            index_entries=[entry], codec_context=codec_context, pix_fmt=pixels, height=HEIGHT, width=WIDTH
        )
        return FrameIndex(str(path), stream, 0)

    return make


def test_a_raw_frame_is_given_as_it_lies_in_the_file_and_not_decoded(opened):
    index = opened()
    frame = index.frame(0)
    index.close()
    assert (frame.shape, frame.dtype, frame.strides) == ((HEIGHT, WIDTH), np.uint32, (3 * WIDTH, 3))
    assert np.array_equal(np.ascontiguousarray(frame).view(np.uint8).reshape(HEIGHT, WIDTH, 4)[..., :3], PIXELS)


@pytest.mark.parametrize(
    "form",
    [
        {"codec": "mjpeg"},
        {"pixels": "bgr24"},
        {"pixels": "yuv444p"},
        {"data": bytes(HEIGHT * WIDTH * 3 + 2)},
        {"data": bytes(HEIGHT * WIDTH)},
    ],
)
def test_a_frame_of_another_form_is_decoded(opened, form):
    index = opened(**form, decoded=["the picture"])
    assert index.frame(0) == "the picture"
    index.close()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"size": HEIGHT * WIDTH * 3 + 1}, "is cut off within frame 0"),
        ({"codec": "mjpeg"}, "has no picture in frame 0"),
        ({"codec": "mjpeg", "decoded": ["one", "two"]}, "has no picture in frame 0"),
    ],
)
def test_a_frame_that_is_cut_off_or_none_is_named(opened, form, message):
    index = opened(**form)
    with pytest.raises(VideoError, match=rf"a\.train\.mov {message}"):
        index.frame(0)
    index.close()


@pytest.mark.parametrize(
    ("changes", "is_listed"),
    [
        ({}, True),
        ({"codec": "rawvideo"}, True),
        ({"codec": "h264"}, False),
        ({"name": "matroska,webm"}, False),
        ({"frames": 2}, False),
        ({"frames": 0}, False),
        ({"frames": 0, "times": ()}, False),
        ({"start": 10}, False),
        ({"times": (10, 20, 30), "start": 10}, True),
    ],
)
def test_files_are_read_by_number_that_list_all_frames_from_the_first_one_shown(tmp_path, changes, is_listed):
    path = tmp_path / "a.mov"
    path.touch()
    entries = [SimpleNamespace(timestamp=time, size=1, pos=0) for time in changes.get("times", (0, 10, 20))]
    stream = SimpleNamespace(
        index_entries=entries, codec_context=SimpleNamespace(name=changes.get("codec", "mjpeg")), pix_fmt="yuvj420p",
        height=HEIGHT, width=WIDTH, frames=changes.get("frames", 3), start_time=changes.get("start", 0),
    )  # fmt: skip
    container = SimpleNamespace(format=SimpleNamespace(name=changes.get("name", "mov,mp4,m4a")))
    index = FrameIndex.of(str(path), container, stream, 0)
    assert (index is not None) is is_listed
    if index is not None:
        index.close()
