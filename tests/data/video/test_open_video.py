"""How a key frame before a time is looked for: containers offer them by decoding time, some too late."""

from fractions import Fraction
from types import SimpleNamespace

import av.error
import numpy as np
import pytest
from av.video.frame import PictureType

from tsp.data.video.errors import VideoError
from tsp.data.video.open_video import MAX_SEEKS, UnsureError, VideoSource
from tsp.data.video.packet_scan import HIDDEN, Scan


class Container:
    """Offers, for a seek, the last of its key frames (decoded, shown) that is decoded by then, else its first."""

    def __init__(self, *keys):
        self.keys, self.sought = keys, []

    def seek(self, offset, stream):
        self.sought.append(offset)

    def demux(self, stream):
        before = [key for key in self.keys if key[0] <= self.sought[-1]]
        dts, pts = before[-1] if before else self.keys[0]
        # Each time another number, as a library makes them.
        yield SimpleNamespace(dts=int(str(dts)), pts=pts, size=1, is_keyframe=True, is_discard=False)


def sought(container, target, origin=0):
    """The time of the first packet given, or None where all are read from the beginning; and the seeks."""
    source = SimpleNamespace(
        container=container, stream=None, is_intra=False, timeline=SimpleNamespace(origin=origin),
        _shifted=lambda packets: packets, all_packets=lambda: iter([None]),
    )  # fmt: skip
    first = next(iter(VideoSource._sought(source, target)))
    return (None if first is None else first.pts), container.sought


@pytest.mark.parametrize(
    ("keys", "target", "found", "seeks"),
    [
        ([(0, 0), (100, 100)], 150, 100, [150]),
        ([(0, 0), (100, 100)], 100, 100, [100]),
        ([(0, 5), (100, 160)], 150, 5, [150, 99]),
        ([(0, 5), (90, 155), (100, 160)], 150, 5, [150, 99, 89]),
    ],
)
def test_a_key_frame_that_is_shown_too_late_is_passed_over_for_the_one_before_it(keys, target, found, seeks):
    assert sought(Container(*keys), target) == (found, seeks)


def test_where_the_first_key_frame_is_too_late_the_steps_back_grow_and_then_all_is_read():
    found, seeks = sought(Container((1000, 1500)), 1150)
    assert found is None
    assert len(seeks) == MAX_SEEKS
    steps = [before - after for before, after in zip([1000, *seeks[1:]], seeks[1:], strict=False)]
    assert steps == [2**number for number in range(MAX_SEEKS - 1)]


def packet(pos, *, size=1, **more):
    return SimpleNamespace(pos=pos, size=size, is_discard=False, pts=more.pop("pts", 7), dts=7, **more)


class Scanned(VideoSource):
    """A file whose packets were all read before: ten, a hundred bytes and ten units of time apart."""

    path, is_intra, key_marks_lie, stream = "a.ts", False, False, None

    def __init__(self, *, keys=(0, 4, 8), offers=lambda offset: offset // 10, fault="", **changes):
        times = [10 * number for number in range(10)]
        self.scan = Scan(
            pts=np.array(times), due=np.array(times), is_key=np.isin(np.arange(10), keys),
            position=100 * np.arange(10), seek_to=np.array(times), shown=np.array(times), is_seekable=True, notes=(),
            end_sec=1.0, end_byte=1000, fields_apart=False, fault=fault,
        )  # fmt: skip
        for name, value in changes.items():
            object.__setattr__(self.scan, name, value)
        self.timeline = SimpleNamespace(scan=self.scan, origin=0, time_base=Fraction(1, 20))
        self.container, self.offers, self.at = self, offers, None
        self.sought, self.packets = [], [packet(100 * number) for number in range(10)]
        self._entry = None

    def seek(self, offset, stream):
        self.sought.append(offset)
        self.at = self.offers(offset)
        if self.at is None:
            raise av.error.PermissionError(1, "no seeking")

    def demux(self, stream):
        return iter(self.packets[self.at or 0 :])

    def _reopen(self):
        self.sought.append("from the beginning")
        self.at = 0


def read(source, target):
    """The times of the packets before a target, and where was sought."""
    return [item.pts for item in source.packets_before(target)], source.sought


@pytest.mark.parametrize(
    ("offers", "sought"),
    [
        (lambda offset: offset // 10, [80]),
        (lambda offset: max(offset // 10 - 3, 0), [80]),  # an earlier packet: what lies between is passed over
        # A later one: sought a second further back, then two, four, ..., as long as there is anything before.
        (lambda offset: 9, [80, 60, 20, "from the beginning"]),
        (lambda offset: 9 if offset > 70 else 1, [80, 60]),
        (lambda offset: None, [80, "from the beginning"]),
        (lambda offset: 10, [80, 60, 20, "from the beginning"]),  # behind the last
    ],
)
def test_a_scanned_file_is_read_from_the_key_frame_before_wherever_seeking_leads(offers, sought):
    assert read(Scanned(offers=offers), 85) == ([80, 90], sought)


@pytest.mark.parametrize("changes", [{"is_seekable": False}, {"keys": (0,)}, {"keys": ()}])
def test_a_scanned_file_without_a_later_key_frame_or_without_seeking_is_read_from_its_beginning(changes):
    source = Scanned(**changes)
    assert read(source, 55) == ([40, 50, 60, 70, 80, 90] if "keys" not in changes else list(range(0, 100, 10)),
                                ["from the beginning"])  # fmt: skip


def test_times_are_those_of_the_scan_and_packets_that_are_never_shown_have_none():
    source = Scanned(pts=np.array([0, 10, HIDDEN, *range(30, 100, 10)]), due=np.arange(10))
    source.packets[2].is_discard = True
    source.packets.insert(5, packet(None, size=0))  # dropped while recording
    source.packets.append(packet(None, size=0, pts=None))  # that ends the decoding
    given = list(source.packets_before(0))
    assert [item.pts for item in given] == [0, 10, None, *range(30, 100, 10), None]
    assert [item.dts for item in given][:10] == list(range(10))
    assert given[2].is_discard  # so that no frame comes of it


def test_a_file_that_changes_while_it_is_read_is_named_and_one_that_cannot_be_read_to_its_end_ends_there():
    moved, longer, cut = Scanned(), Scanned(), Scanned(fault="damaged")
    moved.packets[3] = packet(301)
    for source in (longer, cut):
        source.packets.append(packet(1000))
    for source in (moved, longer):
        with pytest.raises(VideoError, match=r"a\.ts changed while it was being read"):
            read(source, 0)
    assert read(cut, 0)[0] == list(range(0, 100, 10))
    unplaced = Scanned(position=np.full(10, -1), is_seekable=False)
    unplaced.packets = [packet(None) for _ in range(10)]
    assert read(unplaced, 0)[0] == list(range(0, 100, 10))


@pytest.mark.parametrize(
    ("frames", "is_right"),
    [
        ([(40, PictureType.I, True)], True),
        ([(40, PictureType.P, True)], True),  # a key frame by its headers, whatever its pictures are called
        ([(40, PictureType.I, False)], True),
        ([(40, PictureType.P, False)], False),
        ([(40, PictureType.B, False)], False),
        ([(50, PictureType.I, True)], False),  # the key frame did not come out
        ([(30, PictureType.B, False), (None, PictureType.B, False), (40, PictureType.I, True)], True),
        ([(40, PictureType.I, True), (50, PictureType.P, False)], True),
    ],
)
def test_a_key_frame_that_needs_others_is_found_out_by_the_first_frame_that_is_shown(frames, is_right):
    source = Scanned()
    source.codec = SimpleNamespace(decode=lambda _: [
        SimpleNamespace(pts=pts, pict_type=kind, key_frame=is_key) for pts, kind, is_key in frames
    ])  # fmt: skip
    given = next(source.packets_before(45))
    assert source.is_entry(given)
    assert not source.is_entry(packet(0, pts=30))
    if is_right:
        assert len(source.decode(given)) == len(frames)
        assert not source.is_entry(given)  # it is known to be right
    else:
        with pytest.raises(UnsureError):
            source.decode(given)
    assert source.key_marks_lie is not is_right


@pytest.mark.parametrize(("pts", "key"), [(0, 0), (39, 0), (40, 40), (79, 40), (500, 80)])
def test_the_key_frame_before_a_time_is_that_of_the_scan_or_of_the_files_list(pts, key):
    assert Scanned().key_frame_before(pts) == key
    lying = Scanned()
    lying.key_marks_lie = True
    assert lying.key_frame_before(pts) is None

    class Entries(list):
        def search_timestamp(self, wanted):
            return max((at for at, entry in enumerate(self) if entry.timestamp <= wanted), default=-1)

    listed = Scanned()
    listed.timeline.scan, listed.timeline.origin = None, 7
    listed.stream = SimpleNamespace(index_entries=Entries(SimpleNamespace(timestamp=time) for time in (7, 47, 87)))
    assert listed.key_frame_before(pts) == key
    assert listed.key_frame_before(-1) is None
    del listed.stream.index_entries[1:]
    assert listed.key_frame_before(pts) is None  # one entry is no list
