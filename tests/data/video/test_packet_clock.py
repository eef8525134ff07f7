"""A container's clock, made continuous, on packets that are no more than their times."""

from fractions import Fraction
from types import SimpleNamespace

import pytest
from av.format import Flags

from tsp.data.video.packet_clock import Clock

MS = Fraction(1, 1000)


def clock(*, may_jump: bool = True, name: str = "mpegts", start_sec: float = 0.0) -> Clock:
    flags = Flags.ts_discont.value if may_jump else 0
    return Clock(SimpleNamespace(format=SimpleNamespace(flags=flags, name=name), start_time=int(start_sec * 1_000_000)))


def packet(
    dts: int | None, *, stream: int = 0, duration: int | None = 40, frames: int = 0, kind: str = "video", **more
):
    return SimpleNamespace(
        dts=dts, pts=more.pop("pts", dts), duration=duration, time_base=MS, pos=more.pop("pos", 0),
        size=more.pop("size", 10), stream=SimpleNamespace(index=stream, frames=frames, type=kind),
    )  # fmt: skip


def offsets(made: Clock, *times: int | None, **more) -> list[int]:
    return [made.offset(packet(dts, **more)) for dts in times]


def test_an_even_clock_is_left_alone():
    even = clock()
    assert offsets(even, 0, 40, 80, None, 160) == [0] * 5
    assert even.notes == []


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 40, 10_080, 10_120], [0, 0, 0, 0]),
        ([0, 40, 10_081, 10_121], [0, 0, -10_001, -10_001]),
        ([50_000, 50_040, 0, 40], [0, 0, 50_080, 50_080]),
        ([0, 100, 0, 40], [0, 0, 0, 0]),
        ([0, 101, 0, 40], [0, 0, 141, 141]),
    ],
)
def test_a_jump_of_more_than_ten_seconds_or_back_is_closed(times, expected):
    assert offsets(clock(), *times) == expected


def test_a_jump_is_said_with_its_length_and_when_it_comes():
    jumping = clock(start_sec=50.0)
    offsets(jumping, 50_000, 50_040, 0)
    assert jumping.notes == ["its clock jumps by -50.080 s at 0.080 s; the jump is removed"]


def test_every_stream_follows_the_jump_of_the_first():
    both = clock()
    assert offsets(both, 90_000, 90_040) == [0, 0]
    assert offsets(both, 90_000, stream=1) == [0]
    assert offsets(both, 0) == [90_080]
    assert offsets(both, 0, 40, stream=1) == [90_080, 90_080]
    assert offsets(both, None, stream=1) == [90_080]


@pytest.mark.parametrize(
    ("name", "frames", "times", "expected"),
    [
        ("matroska,webm", 0, [0, 40, 60_000], [0, 0, 0]),
        ("matroska,webm", 0, [60_000, 60_040, 0], [0, 0, 60_080]),
        ("mov,mp4,m4a", 100, [60_000, 60_040, 0], [0, 0, 0]),
        ("mov,mp4,m4a", 0, [60_000, 60_040, 0], [0, 0, 60_080]),
    ],
)
def test_in_other_formats_a_jump_forward_is_a_still_picture_and_an_edit_list_may_go_back(name, frames, times, expected):
    assert offsets(clock(may_jump=False, name=name), *times, frames=frames) == expected


def test_a_packet_without_duration_or_clock_moves_nothing():
    odd = clock()
    assert offsets(odd, 0, 10_000, 20_001, duration=None) == [0, 0, -10_001]
    bare = packet(5, stream=1)
    bare.time_base = None
    assert odd.offset(bare) == 0


def test_the_end_is_that_of_the_last_picture_sound_or_subtitle():
    made = clock()
    for item in (packet(1000, pts=1080, pos=500), packet(None, pos=400, size=300), packet(900, kind="data", pos=10)):
        made.note_end(item, 20)
    assert (made.end_sec, made.end_byte) == (Fraction(1140, 1000), 700)
    made.note_end(packet(2000, pts=None, duration=None, kind="audio"), 0)
    assert made.end_sec == 2
    attached = packet(9000, stream=1)
    attached.time_base = None
    made.note_end(attached, 0)
    assert made.end_sec == 2
