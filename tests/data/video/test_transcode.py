"""What is said to be lost or doubted when a video is standardised, from times alone."""

from fractions import Fraction
from types import SimpleNamespace

import av.error
import numpy as np
import pytest

from tsp.data.video import transcode as module
from tsp.data.video.errors import VideoError
from tsp.data.video.packet_scan import ORDER_NOTE
from tsp.data.video.transcode import _doubts, _gaps, _Picture, _shortened

MPEG = Fraction(1, 90_000)


@pytest.mark.parametrize(
    ("number", "last"), [(0, None), (1, "gap 0"), (4, "gap 3"), (5, "and 2 more gaps"), (9, "and 6 more gaps")]
)
def test_more_than_four_gaps_are_shortened_to_three_and_their_number(number, last):
    texts = _shortened([f"gap {at}" for at in range(number)])
    assert texts[-1:] == ([last] if last else [])
    assert len(texts) == min(number, 4)
    assert texts[:3] == ["gap 0", "gap 1", "gap 2"][:number]


def test_runs_of_frames_that_are_not_there_are_gaps_with_their_times():
    shown = np.arange(0, 90) * 3000
    is_there = np.ones(90, bool)
    assert _gaps(shown, is_there, float(MPEG)) == []
    is_there[[0, 1, 45, 88, 89]] = False
    assert _gaps(shown, is_there, float(MPEG)) == [
        "2 frames from 0.00 to 0.03 s cannot be decoded completely",
        "1 frame from 1.50 to 1.50 s cannot be decoded completely",
        "2 frames from 2.93 to 2.97 s cannot be decoded completely",
    ]


def opened(*steps, notes=()):
    shown = np.cumsum([0, *steps])
    scan = SimpleNamespace(shown=shown, notes=notes, fault="")
    return SimpleNamespace(
        path="a.avi", container=SimpleNamespace(streams=SimpleNamespace(audio=[])), fps=None, time_base=MPEG,
        stream=SimpleNamespace(sample_aspect_ratio=None), timeline=SimpleNamespace(scan=scan),
    )  # fmt: skip


@pytest.mark.parametrize(("pause", "is_doubted"), [(3000 * 15, False), (3000 * 16, True), (3000 * 60, True)])
def test_a_pause_of_half_a_second_is_doubted_and_what_the_scan_found(monkeypatch, pause, is_doubted):
    monkeypatch.setattr(module, "unheeded", lambda *_: ("it asks for a crop",))
    doubts = _doubts(opened(*[3000] * 30, pause, *[3000] * 30, notes=("the clock jumps", ORDER_NOTE)))
    end_sec = 1 + pause / 90_000
    frozen = f"no frame between 1.03 and {end_sec:.2f} s, so the frame before is repeated"
    assert doubts == ("the clock jumps", *([frozen] if is_doubted else []), "it asks for a crop")


class Frame(SimpleNamespace):
    width, height = 64, 48

    @property
    def time(self):
        return None if self.pts is None else float(self.pts * MPEG)


def picture(*pts, salvage=False, damaged=(), notes=()):
    """A file whose decoder puts out frames of these times."""
    made = opened(*np.diff(sorted({time for time in pts if time is not None})), notes=notes)
    frames = [Frame(pts=time, duration=0, is_corrupt=time in damaged) for time in pts]
    made.all_packets = lambda: iter(range(len(frames) + 1))
    made.codec = SimpleNamespace(decode=lambda number: frames[number : number + 1])
    found = _Picture(made, Fraction(30), None, salvage)
    found._graph = lambda _: SimpleNamespace(push=lambda _: None)
    return found


@pytest.fixture(autouse=True)
def _no_filters(monkeypatch):
    monkeypatch.setattr(module, "pulled", lambda *_: iter(()))


@pytest.mark.parametrize(("still_sec", "is_refused"), [(900, False), (900.1, True), (100_000, True)])
def test_a_picture_that_stays_for_a_quarter_of_an_hour_may_and_for_longer_has_damaged_times(still_sec, is_refused):
    times = [0, 90_000, round(90_000 * (1 + still_sec)), round(90_000 * (2 + still_sec))]
    if is_refused:
        end_sec = 1 + still_sec
        with pytest.raises(VideoError, match=rf"a\.avi shows nothing new between 1 and {end_sec:.0f} s: its times"):
            list(picture(*times).frames())
    else:
        assert list(picture(*times).frames()) == []
    late = picture(round(90_000 * still_sec))
    if is_refused:
        with pytest.raises(VideoError, match="shows nothing new between 0 and"):
            list(late.frames())
    else:
        list(late.frames())


def test_frames_that_come_late_or_without_a_time_are_passed_over_and_of_one_time_each_is_given():
    late = picture(0, 3000, None, 1000, 3000, 6000, notes=("its clock jumps",), salvage=True)
    assert [frame.pts for frame in late._decode()] == [0, 3000, 3000, 6000]
    late._account()
    assert late.lost == ["1 frame is out of order, the first at 0.01 s"]


def test_frames_that_are_listed_and_not_whole_are_lost_but_for_those_before_the_first(tmp_path):
    times = range(0, 30_000, 3000)
    assert list(picture(*times, damaged=(0, 3000)).frames()) == []  # their group began before the file
    with pytest.raises(
        VideoError,
        match=r"a\.avi cannot be standardised: 1 frame from 0\.10 to 0\.10 s cannot be decoded completely; --salvage",
    ):
        list(picture(*times, damaged=(9000,)).frames())
    kept = picture(*times, damaged=(9000,), salvage=True)
    list(kept.frames())
    assert kept.lost == ["1 frame from 0.10 to 0.10 s cannot be decoded completely"]


@pytest.mark.parametrize(("num_before", "at_sec"), [(0, "0.00"), (31, "1.00")])
def test_a_decoder_that_fails_says_after_how_many_seconds_and_is_gone_on_with_to_salvage(num_before, at_sec):
    times = range(0, 120_000, 3000)
    broken, salvaged = picture(*times), picture(*times, salvage=True)
    for found in (broken, salvaged):
        found._opened.codec.decode = failing(found._opened.codec.decode, num_before)
    with pytest.raises(VideoError, match=rf"a\.avi cannot .* fails after {at_sec} s: Invalid data found; --salvage"):
        list(broken.frames())
    assert [frame.pts for frame in salvaged._decode()] == [time for time in times if time != 3000 * num_before]


def failing(decode, number):
    """A decoder that cannot decode one packet."""

    def decoded(packet):
        if packet == number:
            raise av.error.InvalidDataError(22, "Invalid data found")
        return decode(packet)

    return decoded
