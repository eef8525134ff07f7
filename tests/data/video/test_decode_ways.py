"""Which packets are decoded for the frames of a clip, and in which order frames are handed on; no real decoder."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from tsp.data.video.decode_ways import decode_all, decode_all_from_beginning, decode_wanted
from tsp.data.video.errors import VideoError
from tsp.data.video.frame_chooser import FrameChooser
from tsp.data.video.open_video import UnsureError

FRAME = Fraction(1, 30)
EVERY_OTHER = (0, 2, 4)


def choose(*starts, offsets=EVERY_OTHER):
    return FrameChooser([start / 30 for start in starts], offsets, FRAME, Fraction(30))


def packet(pts, dts=None, *, size=1, is_discard=False):
    return SimpleNamespace(pts=pts, dts=pts if dts is None else dts, size=size, is_discard=is_discard)


class Source:
    """A file of these packets, whose decoder puts out a frame for each, or all of them so many packets later."""

    path = "a.mp4"

    def __init__(self, *packets, is_intra=False, has_scan=True, delay=0):
        self.packets, self.is_intra, self.delay = packets, is_intra, delay
        self.timeline = SimpleNamespace(scan="all" if has_scan else None)
        self.codec = SimpleNamespace(skip_frame="as before")
        self.num_read, self.decoded, self.held = 0, [], []

    def all_packets(self):
        for item in self.packets:
            self.num_read += 1
            yield item

    def packets_before(self, pts):
        return self.all_packets()

    def is_entry(self, item):
        return item is self.packets[0]

    def decode(self, item):
        if item is None or not item.size:
            out, self.held = self.held, []
            return out
        self.decoded.append((item.pts, self.codec.skip_frame))
        self.held.append(SimpleNamespace(pts=item.pts))
        num_out = max(0, len(self.held) - self.delay)
        out, self.held = self.held[:num_out], self.held[num_out:]
        return out


def times(frames):
    return [frame.pts for frame in frames]


EVEN = [packet(number) for number in range(100)]


def test_by_times_only_the_wanted_frames_must_be_decoded_and_nothing_is_read_behind_the_last():
    source = Source(*EVEN)
    assert times(decode_wanted(source, choose(1))) == [1, 3, 5]
    assert source.decoded == [
        (0, "DEFAULT"), (1, "DEFAULT"), (2, "NONREF"), (3, "DEFAULT"), (4, "NONREF"), (5, "DEFAULT")
    ]  # fmt: skip
    assert source.num_read == 7  # the next one shows that no frame has the time of the last


def test_of_frames_that_stand_alone_the_others_are_not_decoded_at_all():
    source = Source(*EVEN, is_intra=True)
    assert times(decode_wanted(source, choose(1))) == [1, 3, 5]
    assert source.decoded == [(1, "DEFAULT"), (3, "DEFAULT"), (5, "DEFAULT")]


@pytest.mark.parametrize("delay", [0, 2, 5])
def test_frames_that_are_stored_out_of_order_and_come_out_late_are_found(delay):
    # I B-frames follow the frame that they refer to: 0, 3, 1, 2, 6, 4, 5, ...
    order = [0, *(number for group in range(3, 60, 3) for number in (group, group - 2, group - 1))]
    stored = [packet(pts, at - 2) for at, pts in enumerate(order)]
    for way in (decode_wanted, decode_all, decode_all_from_beginning):
        assert sorted(times(way(Source(*stored, delay=delay), choose(4, 11)))) == [4, 6, 8, 11, 13, 15], way
    assert times(decode_all(Source(*stored, delay=delay), choose(4, 11))) == [4, 6, 8, 11, 13, 15]


def test_a_clip_at_the_end_of_a_file_is_whole_by_every_way():
    for way in (decode_wanted, decode_all, decode_all_from_beginning):
        for delay in (0, 3):
            end = packet(None, size=0)
            assert times(way(Source(*EVEN[:50], end, delay=delay), choose(45))) == [45, 47, 49]
            assert times(way(Source(*EVEN[:50], end, delay=delay), choose(47))) == [47, 49]


@pytest.mark.parametrize(
    "odd",
    [
        [packet(0), packet(1), packet(1), packet(2)],
        [packet(0), packet(3), packet(2, 4)],
        [packet(0), SimpleNamespace(pts=1, dts=None, size=1, is_discard=False)],
    ],
)
def test_times_that_do_not_rise_or_are_missing_are_left_to_slower_ways(odd):
    with pytest.raises(UnsureError):
        list(decode_wanted(Source(*odd), choose(50)))


def test_a_packet_without_a_time_is_one_that_is_never_shown_only_where_all_packets_were_read_before():
    stored = [packet(0), packet(1), packet(None, 1), *EVEN[2:]]
    assert times(decode_wanted(Source(*stored), choose(1))) == [1, 3, 5]
    with pytest.raises(UnsureError):
        list(decode_wanted(Source(*stored, has_scan=False), choose(1)))
    assert times(decode_all(Source(*stored), choose(1))) == [1, 3, 5]
    with pytest.raises(VideoError, match=r"a\.mp4 has frames without a time: run 'tspctl data standardize' first"):
        list(decode_all(Source(*stored, has_scan=False), choose(1)))


def test_a_packet_that_an_edit_list_hides_is_decoded_and_not_counted():
    stored = [packet(-2, is_discard=True), packet(-1, is_discard=True), *EVEN]
    source = Source(*stored)
    assert times(decode_wanted(source, choose(0))) == [0, 2, 4]
    assert source.decoded[:3] == [(-2, "DEFAULT"), (-1, "NONREF"), (0, "DEFAULT")]


@pytest.mark.parametrize(("late", "shown"), [(16, [20, 22, 24]), (17, [19, 22, 24])])
def test_frames_may_come_out_of_the_decoder_up_to_sixteen_places_late(late, shown):
    order = [number for number in range(60) if number != 20]
    order.insert(20 + late, 20)
    assert times(decode_all(Source(*(packet(number) for number in order)), choose(20))) == shown


def test_decoding_everything_skips_no_frame_and_ends_once_the_clips_are_whole():
    source = Source(*EVEN)
    assert times(decode_all(source, choose(1))) == [1, 3, 5]
    assert {mode for _, mode in source.decoded} == {"DEFAULT"}
    assert source.num_read == 6 + 1 + 16  # the frames, the next, and those that might still be in the wrong order


def test_of_frames_of_one_time_the_last_is_handed_on():
    stored = [SimpleNamespace(pts=max(0, number - number % 2), number=number) for number in range(100)]
    source = Source(*(packet(item.pts) for item in stored))
    source.decode = lambda item: [stored[source.num_read - 1]]
    assert [frame.number for frame in decode_all(source, choose(2, offsets=(0, 1, 2)))] == [3, 5, 7]
