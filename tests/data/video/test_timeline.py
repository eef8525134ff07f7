"""Frame rates and pauses from the times of frames, and which files are read through for them: arithmetic alone."""

import os
from fractions import Fraction
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest

from tsp.data.video import timeline
from tsp.data.video.errors import VideoError
from tsp.data.video.timeline import (
    Pause,
    _ScanCache,
    establish,
    frame_rate,
    is_even,
    origin_of,
    pauses,
    rate_of_times,
)

MS = Fraction(1, 1000)
MPEG = Fraction(1, 90_000)
FRAME = Fraction(1, 30)


def shown(*steps):
    """Times from 0 on that are so far apart."""
    return np.array([0, *accumulate(steps)], np.int64)


@pytest.mark.parametrize(
    ("step", "usual", "time_base", "even"),
    [
        # A twentieth of the usual distance, or two units, but no more than two milliseconds: whichever is more.
        (3150, 3000, MPEG, True),
        (3151, 3000, MPEG, False),
        (2850, 3000, MPEG, True),
        (2849, 3000, MPEG, False),
        (22, 20, MPEG, True),
        (23, 20, MPEG, False),
        (35, 33, MS, True),
        (36, 33, MS, False),
        (31, 33, MS, True),
        (30, 33, MS, False),
        (21, 20, Fraction(1, 600), True),
        (22, 20, Fraction(1, 600), False),
        (1, 1, FRAME, True),
        (2, 1, FRAME, False),
    ],
)
def test_frames_are_evenly_apart_up_to_the_rounding_of_times(step, usual, time_base, even):
    assert is_even(np.array([usual, step, usual]), time_base).tolist() == [True, even, True]


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        (shown(*[3000] * 60), 30),
        (shown(*[3600] * 60), 25),
        (shown(*[3000] * 19, 90_000), 30),  # one of twenty lasts longer: a pause in an even rate
        (shown(*[3000] * 18, 90_000), 19 / (18 / 30 + 1)),  # one of nineteen: the rate varies
        (shown(3000, 6000), 2 / 0.1),
    ],
)
def test_the_rate_is_that_of_nearly_all_frames_or_else_their_mean(times, rate):
    assert float(rate_of_times(times, MPEG, ())) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(("claimed", "rate"), [((), None), ((None, Fraction(0), Fraction(24), Fraction(30)), 24)])
def test_a_single_frame_has_the_rate_that_its_file_claims(claimed, rate):
    assert rate_of_times(shown(), MPEG, claimed) == rate
    assert frame_rate(0, 0, 5, MPEG, claimed) == rate


@pytest.mark.parametrize(
    ("num_frames", "last", "time_base", "claimed", "rate"),
    [
        # 30 a second by their times; a claim holds within a ten-thousandth
        (91, 270_000, MPEG, "30.0029", "30.0029"),
        (91, 270_000, MPEG, "30.0031", "30"),
        (91, 270_000, MPEG, "29.9971", "29.9971"),
        (91, 270_000, MPEG, "29.9969", "30"),
        # or two units of time over all frames
        (2, 300, MPEG, "301.9", "301.9"),
        (2, 300, MPEG, "302.1", "300"),
        (2, 33, MS, "32", "32"),
        (2, 33, MS, "32.3", "1000/33"),
        # or two milliseconds where a unit is longer
        (2, 1, FRAME, "31.7", "31.7"),
        (2, 1, FRAME, "31.9", "30"),
        (3, 2, FRAME, "30.8", "30.8"),
        (3, 2, FRAME, "31", "30"),
        (4, 100_000, Fraction(1), "1", "3/100000"),
        (4, 100_001, Fraction(1), "1", "2/66667"),
    ],
)
def test_a_claimed_rate_is_taken_where_it_agrees_with_the_times(num_frames, last, time_base, claimed, rate):
    assert frame_rate(0, last, num_frames, time_base, [Fraction(claimed)]) == Fraction(rate)
    assert frame_rate(700, 700 + last, num_frames, time_base, [None, Fraction(-1), Fraction(claimed)]) == Fraction(rate)


def test_of_several_claims_that_agree_the_first_counts():
    near = [Fraction(24), Fraction("30.001"), Fraction(30)]
    assert frame_rate(0, 270_000, 91, MPEG, near) == near[1]


def test_a_pause_lasts_from_the_first_missing_frame_to_the_next_that_is_there():
    steps = [3000] * 60
    steps[10], steps[31], steps[40] = 9000, 6000, 4500
    first, second = pauses(shown(*steps), MPEG)
    assert first == Pause(pytest.approx(11 / 30), pytest.approx(13 / 30), 2)
    assert second == Pause(pytest.approx(34 / 30), pytest.approx(35 / 30), 1)


@pytest.mark.parametrize(
    ("steps", "time_base", "num_pauses"),
    [
        ([], MPEG, 0),
        ([3000] * 19 + [9000], MPEG, 1),
        ([3000] * 18 + [9000], MPEG, 0),  # the rate varies
        ([3] * 40 + [5], MS, 0),  # no more than times of milliseconds are rounded
        ([3] * 40 + [6], MS, 1),
    ],
)
def test_pauses_are_those_of_an_even_rate_that_rounding_does_not_explain(steps, time_base, num_pauses):
    assert len(pauses(shown(*steps), time_base)) == num_pauses


@pytest.mark.parametrize(
    ("start_us", "time_base", "origin"),
    [(1_400_000, FRAME, 42), (16_600, FRAME, 0), (16_700, FRAME, 1), (1, MS / 10**6, 1000), (None, MS / 10**6, 0)],
)
def test_time_0_is_the_containers_start_rounded_to_the_streams_unit(start_us, time_base, origin):
    assert origin_of(SimpleNamespace(start_time=start_us), SimpleNamespace(time_base=time_base)) == origin


def opened(num_listed=300, **more):
    """An MP4 file that lists frames at 30 a second, and its stream."""
    entries = [SimpleNamespace(timestamp=3000 * at, is_keyframe=at == more.get("key", 0)) for at in range(num_listed)]
    stream = SimpleNamespace(
        index=0, index_entries=entries, frames=more.get("frames", num_listed), time_base=more.get("time_base", MPEG),
        average_rate=None, guessed_rate=None, base_rate=more.get("base_rate", Fraction(30)),
        codec_context=SimpleNamespace(name="vp9", extradata=None, reorder_depth=0),
    )  # fmt: skip
    return SimpleNamespace(format=SimpleNamespace(name=more.get("name", "mov,mp4,m4a")), start_time=0), stream


@pytest.mark.parametrize(
    ("file", "options", "is_read"),
    [
        ({}, {}, False),
        ({}, {"whole": True}, True),
        ({"frames": 301}, {}, False),
        ({"frames": 299}, {}, True),  # more are listed than there are
        ({"num_listed": 0}, {}, True),
        ({"num_listed": 0, "frames": 300}, {}, True),
        ({"key": 1}, {}, True),
        ({"name": "matroska,webm"}, {}, True),
        ({"base_rate": None}, {}, True),
        ({"base_rate": Fraction("30.0029")}, {}, False),
        ({"base_rate": Fraction("30.0031")}, {}, True),  # the rate varies
        ({"base_rate": Fraction("29.9969")}, {}, True),
        ({"num_listed": 1}, {}, False),
    ],
)
def test_files_are_read_through_where_their_list_does_not_tell_everything(monkeypatch, file, options, is_read):
    scan = SimpleNamespace(shown=shown(3600))
    monkeypatch.setattr(timeline._SCANS, "get", lambda *_, **__: scan)
    found = establish("a.mp4", *opened(**file), **options)
    assert found.scan is (scan if is_read else None)
    assert float(found.fps) == pytest.approx(25 if is_read else 30, rel=1e-4)


def test_a_file_without_frames_or_without_a_unit_of_time_is_refused(monkeypatch):
    monkeypatch.setattr(timeline._SCANS, "get", lambda *_, **__: SimpleNamespace(shown=np.array([], np.int64)))
    with pytest.raises(VideoError, match=r"a\.mp4 contains no video frames"):
        establish("a.mp4", *opened(num_listed=0))
    with pytest.raises(VideoError, match=r"a\.mp4 does not state the unit of its times"):
        establish("a.mp4", *opened(time_base=None))


@pytest.fixture
def scans(monkeypatch, tmp_path):
    """A cache of scans of at most 100 packets; asked with a file's number of packets, says whether it was scanned."""
    monkeypatch.setattr(timeline, "CACHED_PACKETS", 100)
    cache, made = _ScanCache(), []

    def scan(path, *_, **__):
        made.append(path)
        return SimpleNamespace(pts=np.zeros(int(os.path.basename(path).split("-")[0])))

    def was_scanned(name, stream=0, *, counted=False, untimed=False):
        path = tmp_path / name
        if not path.exists():
            path.touch()
        made.clear()
        cache.get(str(path), stream, counted=counted, untimed=untimed)
        return bool(made)

    monkeypatch.setattr(timeline, "scan_packets", scan)
    return was_scanned


def test_a_file_is_scanned_once_for_each_of_its_streams_and_ways_and_anew_when_it_changes(scans, tmp_path):
    for ask in ({}, {"stream": 1}, {"counted": True}, {"untimed": True}):
        assert scans("5", **ask)
        assert not scans("5", **ask)
    (tmp_path / "5").write_bytes(b"longer")
    assert scans("5")


def test_the_files_scanned_last_are_remembered_up_to_a_number_of_packets(scans):
    assert scans("40-a")
    assert scans("40-b")
    assert scans("20-c")
    assert not any(scans(name) for name in ("20-c", "40-b", "40-a"))  # a hundred: all fit
    assert scans("1-d")  # the oldest has to go: the one that was asked for least recently
    assert not any(scans(name) for name in ("1-d", "40-a", "40-b"))
    assert scans("20-c")
    assert scans("500-e")  # alone too many: it stays, and nothing else
    assert not scans("500-e")
    assert all(scans(name) for name in ("40-a", "40-b"))
