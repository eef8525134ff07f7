"""Which of a file's streams is its video, by ffmpeg's rule: the most pixels, five million more for a default."""

from types import SimpleNamespace

import pytest
from av.stream import Disposition

from tsp.data.video.choose_stream import best_video_stream, video_streams

PLAIN, DEFAULT = Disposition(0), Disposition.default
HIDDEN = (Disposition.attached_pic, Disposition.timed_thumbnails, Disposition.still_image)


def opened(*streams):
    """A file with streams of (width, height, disposition), or None for one of an unknown codec."""
    made = [
        SimpleNamespace(codec_context=None, disposition=DEFAULT)
        if stream is None
        else SimpleNamespace(codec_context=SimpleNamespace(width=stream[0], height=stream[1]), disposition=stream[2])
        for stream in streams
    ]
    return SimpleNamespace(streams=SimpleNamespace(video=made)), made


@pytest.mark.parametrize(
    ("streams", "best"),
    [
        ([(64, 48, PLAIN), (640, 480, PLAIN), (320, 240, PLAIN)], 1),
        ([(320, 30, PLAIN), (99, 99, PLAIN)], 1),
        ([(64, 48, PLAIN), (64, 48, PLAIN)], 0),
        ([(64, 48, PLAIN), (64, 48, DEFAULT)], 1),
        ([(2500, 2000, PLAIN), (1, 1, DEFAULT)], 1),
        ([(2500, 2001, PLAIN), (1, 2500, DEFAULT)], 0),
        ([(2500, 2001, PLAIN), (1, 2501, DEFAULT)], 1),
        ([None, (64, 48, PLAIN)], 1),
    ],
)
def test_the_largest_stream_is_taken_or_a_default_that_is_not_five_million_pixels_smaller(streams, best):
    container, made = opened(*streams)
    assert best_video_stream(container) is made[best]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_covers_thumbnails_and_streams_of_unknown_codecs_are_no_videos(hidden):
    container, made = opened((4000, 3000, hidden), (4000, 3000, hidden | DEFAULT), None, (64, 48, PLAIN))
    assert video_streams(container) == [made[3]]
    assert best_video_stream(container) is made[3]
    assert best_video_stream(opened((4000, 3000, hidden), None)[0]) is None


@pytest.mark.parametrize(
    "mark", set(Disposition) - {Disposition.attached_pic, Disposition.timed_thumbnails, Disposition.still_image}
)
def test_a_stream_that_is_marked_otherwise_is_a_video(mark):
    container, made = opened((64, 48, mark))
    assert video_streams(container) == made
