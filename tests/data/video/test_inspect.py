"""What is remarked of a video, and the numbers of its report, from its frames' times alone."""

from fractions import Fraction
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest

from tsp.data.video.errors import VideoError
from tsp.data.video.inspect import VideoReport, _duration_sec, _off_rate_sec, _tail, inspect_video

MPEG, MS = Fraction(1, 90_000), Fraction(1, 1000)
PLAIN = {"codec": "h264", "width": 64, "height": 48, "num_frames": 90, "fps": 30.0, "duration_sec": 3.0}
CURE = "run 'tspctl data standardize'"


@pytest.mark.parametrize(
    ("changes", "remarks"),
    [
        ({}, []),
        ({"num_frames": 2}, []),
        ({"num_frames": 1}, ["it contains a single frame"]),
        ({"num_video_streams": 2, "stream_index": 1}, ["it contains 2 video streams; stream 1 is read"]),
        # half a frame's time
        ({"start_sec": 0.5 / 30}, []),
        ({"start_sec": 0.0168}, [f"its video begins 0.017 s after its audio: {CURE}"]),
        ({"start_sec": -1.0}, []),
        ({"fps": 10.0, "start_sec": 0.05}, []),
        (
            {"num_missing": 1, "first_missing_sec": 1.5, "constant_rate": False},
            ["1 frame seems to be missing, the first at 1.500 s, so clips there are not evenly spaced: " + CURE],
        ),
        (
            {"num_missing": 2, "first_missing_sec": 0.0334},
            ["2 frames seem to be missing, the first at 0.033 s, so clips there are not evenly spaced: " + CURE],
        ),
        (
            {"constant_rate": False, "off_rate_sec": 0.25},
            ["its frame rate varies (mean 30.000 fps, frames up to 0.250 s off an even rate), so clips are not evenly "
             "spaced: " + CURE],
        ),
        ({"longest_still_sec": 10.0}, []),
        ({"longest_still_sec": 10.01}, ["its picture does not change for 10.0 s: is there a gap?"]),
        ({"turn": "clockwise"}, [f"players rotate or flip its picture (clockwise), but training does not: {CURE}"]),
        ({"changes_size": True}, [f"its frame size changes: {CURE}"]),
        ({"notes": ("a", "b"), "unheeded": ("c",)}, [f"a: {CURE}", f"b: {CURE}", "c"]),
    ],
)  # fmt: skip
def test_each_oddity_of_a_file_is_remarked_once_with_the_cure_and_an_ordinary_file_has_none(changes, remarks):
    report = VideoReport(**{**PLAIN, **changes})
    assert list(report.remarks) == remarks


def shown(*steps, first=0):
    return np.array([first, *accumulate(steps, initial=first)][1:], np.int64)


@pytest.mark.parametrize(
    ("times", "time_base", "fps", "duration_sec"),
    [
        (shown(*[3000] * 89), MPEG, Fraction(30), 3.0),
        # times of milliseconds: as many frames at the rate, as tables have it, not 2.999
        (np.array([round(at * 1000 / 30) for at in range(90)]), MS, Fraction(30), 90 / 30),
        (np.array([round(at * 1001 / 30) for at in range(90)]), MS, Fraction(30000, 1001), 90 * 1001 / 30000),
        # a tenth of a frame off is still the rate's, more is that of the last frame
        (shown(*[3000] * 89, first=299), MPEG, Fraction(30), 3.0),
        (shown(*[3000] * 89, first=301), MPEG, Fraction(30), 3 + 301 / 90_000),
        (shown(*[3000] * 89, first=90_000), MPEG, Fraction(30), 4.0),
        (shown(3000, 6000, 3000), MPEG, Fraction(30), 5 / 30),
        # the last stays for as long as most
        (shown(3000, 3000, 3000, 9000), MPEG, Fraction(20), 7 / 30),
        (shown(), MPEG, Fraction(25), 1 / 25),
        (shown(first=90_000), MPEG, Fraction(25), 1 + 1 / 25),
    ],
)
def test_a_video_lasts_until_its_last_frame_has_been_shown_for_a_frames_time(times, time_base, fps, duration_sec):
    assert _duration_sec(times, time_base, fps) == pytest.approx(duration_sec, abs=1e-12)


@pytest.mark.parametrize(
    ("times", "off_sec"),
    [
        (shown(*[3000] * 10), 0),
        (shown(*[3000] * 10, first=700), 0),
        (shown(3000, 6000, 3000), 1 / 60),  # behind the rate by a frame, half of it to either side of the even times
        (shown(1500, 4500, 3000), 0.5 / 60),
        (shown(1500, 6000, 3000), 1.0 / 60),
    ],
)
def test_how_far_frames_are_off_an_even_rate(times, off_sec):
    assert _off_rate_sec(times, MPEG, Fraction(30)) == pytest.approx(off_sec, abs=1e-9)


def test_the_tail_of_a_file_is_its_last_second():
    assert _tail(shown(*[3000] * 89), MPEG).tolist() == list(range(59 * 3000, 90 * 3000, 3000))
    assert _tail(np.array([0, 10, 1009, 1010, 2010]), MS).tolist() == [1010, 2010]
    assert _tail(np.array([7]), MS).tolist() == [7]


class Source:
    """A file at 30 frames a second whose decoder puts out, from the beginning or from within, what it is told to."""

    path, time_base, fps = "a.mp4", MPEG, Fraction(30)
    key_marks_lie = False

    def __init__(self, num_frames, *, whole, within=None, sizes=()):
        times = 3000 * np.arange(num_frames)
        self.scan = SimpleNamespace(shown=times, pts=times, fault="", end_sec=num_frames / 30, end_byte=0, notes=())
        self.timeline = SimpleNamespace(scan=self.scan, notes=())
        self.codec = SimpleNamespace(name="vp9", width=64, height=48)
        self.container = SimpleNamespace(
            format=SimpleNamespace(name="mpegts"), streams=SimpleNamespace(audio=[], video=[]), start_time=0
        )
        self.stream = SimpleNamespace(index=0, index_entries=[], frames=0, average_rate=None)
        self.whole, self.within, self.sizes = whole, whole if within is None else within, dict(sizes)
        self.begun = []

    def all_packets(self):
        self.begun.append("beginning")
        return iter(self.whole)

    def packets_before(self, pts):
        self.begun.append(pts // 3000)
        return iter(number for number in self.within if 3000 * abs(number) >= pts)

    def decode(self, number):
        """A frame of this number; damaged, where it is negative."""
        width, height = self.sizes.get(number, (64, 48))
        return [
            SimpleNamespace(pts=3000 * abs(number), width=width, height=height, is_corrupt=number < 0, side_data={})
        ]

    def close(self):
        """Nothing to do."""


@pytest.fixture
def inspected(monkeypatch, tmp_path):
    def inspect(source, **options):
        monkeypatch.setattr("tsp.data.video.inspect.VideoSource", lambda *_, **__: source)
        monkeypatch.setattr("tsp.data.video.inspect.unheeded", lambda *_: ())
        monkeypatch.setattr("tsp.data.video.inspect.why_not_rgb", lambda _: "")
        return inspect_video(tmp_path / "a.mp4", **options)

    return inspect


@pytest.mark.parametrize(
    ("source", "faults", "begun"),
    [
        (Source(90, whole=range(90)), [], ["beginning", 59]),
        (Source(16, whole=range(16)), [], ["beginning", "beginning"]),
        # from within the file frames are missing or damaged: decoded from the beginning they are whole
        (Source(90, whole=range(90), within=range(70, 90)), [], ["beginning", 59, "beginning"]),
        (Source(90, whole=range(90), within=[59, -60, *range(61, 90)]), [], ["beginning", 59, "beginning"]),
        (
            Source(90, whole=[*range(60), *range(62, 90)]),
            ["2 of its frames from 2.00 s on cannot be decoded"],
            ["beginning", 59, "beginning"],
        ),
        (
            Source(90, whole=[0, 1, -2, *range(3, 90)]),
            ["1 of the 16 decoded frames are damaged"],
            ["beginning", 59],
        ),
        # what comes before the first frame that can be decoded was cut away with the beginning of its group
        (Source(90, whole=range(3, 90)), [], ["beginning", 59]),
    ],
)
def test_the_beginning_and_the_last_second_are_decoded_and_what_cannot_be_is_counted(inspected, source, faults, begun):
    report = inspected(source)
    assert list(report.faults) == faults
    assert source.begun == begun
    assert report.num_frames == len(source.scan.shown) - source.whole[0]


def test_all_frames_are_decoded_where_that_is_asked_for(inspected):
    missing = Source(90, whole=[number for number in range(90) if number != 40])
    assert inspected(missing).faults == ()
    assert inspected(missing, decode_all=True).faults == ("1 of its frames from 1.33 s on cannot be decoded",)


def test_a_size_that_changes_is_seen_and_a_file_of_no_whole_frame_refused(inspected):
    assert not inspected(Source(90, whole=range(90))).changes_size
    assert inspected(Source(90, whole=range(90), sizes={70: (64, 50)})).changes_size
    with pytest.raises(VideoError, match=r"a\.mp4: not one frame of it can be decoded"):
        inspected(Source(90, whole=[]))
    unrated = Source(1, whole=[0])
    unrated.fps = None
    with pytest.raises(VideoError, match="does not state its frame rate, and has only one frame"):
        inspected(unrated)


def test_a_single_frame_is_said_to_be_one_and_nothing_else(inspected):
    report = inspected(Source(1, whole=[0]))
    assert report.remarks == ("it contains a single frame",)
    assert (report.duration_sec, report.longest_still_sec) == (1 / 30, 0)


def test_a_varying_rate_pauses_and_a_long_still_are_measured(inspected):
    paused = Source(90, whole=[])
    paused.scan.shown = shown(*[3000] * 44, 3000 * 331, *[3000] * 44)
    paused.decode = lambda pts: [SimpleNamespace(pts=pts, width=64, height=48, is_corrupt=False, side_data={})]
    paused.all_packets = lambda: iter(paused.scan.shown.tolist())
    paused.packets_before = lambda _: iter(paused.scan.shown.tolist())
    report = inspected(paused)
    assert (report.num_missing, report.longest_still_sec) == (330, pytest.approx(331 / 30))
    assert report.first_missing_sec == pytest.approx(45 / 30)
    assert not report.constant_rate
    assert report.start_sec == 0
    paused.scan.shown = paused.scan.shown + 45_000  # after the sound
    assert inspected(paused).start_sec == 0.5
    paused.scan.shown = shown(*[3000] * 20, *[4000] * 20)
    report = inspected(paused)
    assert (report.constant_rate, report.num_missing) == (False, 0)
