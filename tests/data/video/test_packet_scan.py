"""The table of a file's packets, and how times that are missing or wrong are set right; packets are their numbers."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from tsp.data.video import packet_scan
from tsp.data.video.errors import VideoError
from tsp.data.video.packet_scan import (
    HIDDEN,
    _guesses_times,
    _hide_what_lacks_its_beginning,
    _may_be_decoding_times,
    _may_lack_its_beginning,
    _number,
    _put_in_decoded_order,
    _Raw,
    _table,
    _take_for_decoding_times,
    _without_doubles,
    contradicts_decoder,
)

CLOCK = SimpleNamespace(notes=[], end_sec=Fraction(3), end_byte=99)
JUMPED = SimpleNamespace(notes=["its clock jumps"], end_sec=Fraction(3), end_byte=99)


def packets(*times, dts=None, keys=(0,), hidden=(), fields=(), place=1000):
    """Packets shown at these times, a hundred bytes apart."""
    return [
        _Raw(
            pts=time, dts=time if dts is None else dts[at], duration=10, position=place + 100 * at, is_key=at in keys,
            is_hidden=at in hidden, seek_to=time, is_second_field=at in fields,
        )
        for at, time in enumerate(times)
    ]  # fmt: skip


def table(*times, origin=0, clock=CLOCK, **more):
    return _table(packets(*times, **more), origin, clock, ["a note"], "")


def test_the_table_says_when_each_packet_is_shown_and_what_is_due_after_it():
    scan = table(10, 40, 20, 30, 50, origin=10, keys=(0, 3), hidden=(4,))
    assert scan.pts.tolist() == [0, 30, 10, 20, HIDDEN]
    assert scan.due.tolist()[:4] == [0, 10, 10, 20]  # no later packet is shown before
    assert scan.due[4] > 10**18
    assert scan.shown.tolist() == [0, 10, 20, 30]
    assert scan.is_key.tolist() == [True, False, False, True, False]
    assert scan.position.tolist() == [1000, 1100, 1200, 1300, 1400]
    assert scan.seek_to.tolist() == [10, 40, 20, 30, 50]
    assert (scan.end_sec, scan.end_byte, scan.notes, scan.fields_apart) == (3.0, 99, ("a note",), False)
    assert table(10, 20, fields=(1,)).fields_apart


@pytest.mark.parametrize(("pts", "key"), [(-1, 0), (0, 0), (29, 0), (30, 3), (59, 3), (60, 4), (70, 4), (1000, 4)])
def test_decoding_begins_at_the_last_key_frame_that_is_shown_by_then(pts, key):
    # the sixth is a key frame that is never shown
    assert table(0, 10, 20, 30, 60, 70, keys=(0, 3, 4, 5), hidden=(5,)).key_before(pts) == key
    assert table(0, 10, 20, keys=()).key_before(pts) == 0


def test_packets_are_sought_where_each_has_its_place_and_the_clock_is_one():
    assert table(0, 10, 20).is_seekable
    assert not table(0, 10, 20, clock=JUMPED).is_seekable
    assert not table(0, None, 20).is_seekable
    same = packets(0, 10, 20)
    same[2].position = same[1].position
    assert not _table(same, 0, CLOCK, [], "").is_seekable


@pytest.mark.parametrize(
    ("times", "keys", "hidden", "may"),
    [
        ((30, 10, 20, 40), (0,), (), True),
        ((10, 30, 20, 40), (0,), (), False),
        ((30, 10, 20, 40), (0,), (1, 2), False),
        ((10, 20, 30), (1,), (), True),
        ((30, *range(40, 670, 10), 20), (0,), (), False),  # the 65th packet: none leads by so much
        ((30, *range(40, 660, 10), 20), (0,), (), True),
        ((None, 10, 20), (0,), (), False),
        ((30, None, 40), (0,), (), False),
    ],
)
def test_a_file_may_lack_its_beginning_where_frames_are_shown_before_its_first_key_frame(times, keys, hidden, may):
    assert _may_lack_its_beginning(packets(*times, keys=keys, hidden=hidden)) is may


@pytest.mark.parametrize(
    ("decoded", "shown"),
    [
        ([0, 1], [30, 40, 50]),
        ([1, 0], [10, 20, 30, 40, 50]),
        ([3, 4], [40, 50]),
        ([], [10, 20, 30, 40, 50]),
    ],
)
def test_frames_before_the_first_that_can_be_decoded_are_never_shown(monkeypatch, decoded, shown):
    monkeypatch.setattr(packet_scan, "decoded_order", lambda *_: (number for number in decoded))
    cut = packets(30, 10, 20, 40, 50)
    _hide_what_lacks_its_beginning("a.ts", 0, cut)
    assert _table(cut, 0, CLOCK, [], "").shown.tolist() == shown


@pytest.mark.parametrize(
    ("pts", "origin", "hidden", "dts", "is_shown"),
    [
        ([0, 10, 20, 30], 0, (), [0, 10, 20, 30], True),
        ([5, 15, 25, 35], 0, (), [5, 15, 25, 35], True),
        # An edit list that begins two frames late makes up for a decoder that holds two: nothing is hidden.
        ([-20, -10, 0, 10], 0, (0, 1), [0, 10, 20, 30], True),
        ([80, 90, 100, 110], 100, (0, 1), [100, 110, 120, 130], True),
        ([0, 10, 20, 30], 20, (0, 1), [20, 30, 40, 50], True),
        # One that begins later than that hides frames.
        ([-30, -20, -10, 0], 0, (0, 1, 2), [-30, -20, -10, 0], False),
    ],
)
def test_decoding_times_that_were_stored_as_times_of_presentation_begin_where_the_file_does(
    pts, origin, hidden, dts, is_shown
):
    found = packets(*pts, hidden=hidden, dts=[None] * 4)
    _take_for_decoding_times(found, origin, reorder_depth=2)
    assert [packet.dts for packet in found] == dts
    assert (not any(packet.is_hidden for packet in found)) is is_shown


def test_packets_of_an_elementary_stream_are_numbered_at_its_rate():
    bare = packets(None, None, None)
    _number(bare, 40)
    assert [(packet.dts, packet.duration) for packet in bare] == [(0, 40), (40, 40), (80, 40)]


@pytest.mark.parametrize(
    ("order", "pts", "dts", "has_pts", "shown", "is_noted"),
    [
        # B-frames in AVI: the stored times belong to the frames in the order in which the decoder puts them out
        ([0, 2, 1, 3], [None] * 4, [0, 10, 20, 30], False, [0, 20, 10, 30], True),
        ([0, 1, 2, 3], [None] * 4, [0, 10, 20, 30], False, [0, 10, 20, 30], False),
        # times of presentation that are stored are kept, the others filled in between
        ([0, 2, 1, 3], [0, None, 10, 30], [0, 10, 20, 30], True, [0, 20, 10, 30], False),
        # unless they fall in the decoder's order
        ([0, 2, 1, 3], [0, 10, 20, 30], [5, 15, 25, 35], True, [5, 25, 15, 35], False),
        # a packet without a frame takes its time with it
        ([0, 1, 3], [None] * 4, [0, 10, 20, 30], False, [0, 10, HIDDEN, 30], False),
        # of a frame that the decoder puts out twice the first time counts, and what is no packet does not
        ([0, 2, 0, 1, 3, 4], [None] * 4, [0, 10, 20, 30], False, [0, 20, 10, 30], True),
    ],
)
def test_frames_get_the_stored_times_in_the_order_in_which_the_decoder_puts_them_out(
    monkeypatch, order, pts, dts, has_pts, shown, is_noted
):
    monkeypatch.setattr(packet_scan, "decoded_order", lambda *_: (number for number in order))
    found, notes = packets(*pts, dts=dts), []
    _put_in_decoded_order("a.avi", 0, found, has_pts, notes)
    assert _table(found, 0, CLOCK, notes, "").pts.tolist() == shown
    assert notes == [packet_scan.ORDER_NOTE] * is_noted


def test_frames_that_were_hidden_stay_so_and_times_that_fall_are_refused(monkeypatch):
    monkeypatch.setattr(packet_scan, "decoded_order", lambda *_: iter([0, 1, 2]))
    found = packets(None, None, None, dts=[0, 10, 20], hidden=(1,))
    _put_in_decoded_order("a.avi", 0, found, False, [])
    assert _table(found, 0, CLOCK, [], "").pts.tolist() == [0, HIDDEN, 20]
    with pytest.raises(VideoError, match=r"the timestamps in a\.avi do not increase: run 'ffmpeg -i IN -c copy OUT"):
        _put_in_decoded_order("a.avi", 0, packets(None, None, None, dts=[0, 20, 10]), False, [])


def test_frames_that_share_a_time_behind_a_joint_are_refused_or_counted_where_times_do_not_matter():
    doubled = table(0, 10, 10, 20, 20, 30, clock=JUMPED, hidden=(5,))
    text = "after it, 2 frames have the same time as another"
    with pytest.raises(VideoError, match=rf"a\.mpg: its clock jumps, but {text}: run 'tspctl data standardize' first"):
        _without_doubles("a.mpg", doubled, JUMPED, False)
    notes = _without_doubles("a.mpg", doubled, JUMPED, True).notes
    assert notes == ("a note", f"{text}: these are lost, and later frames are up to that many frames early")
    assert _without_doubles("a.mpg", doubled, CLOCK, False) is doubled
    single = table(0, 10, 20, clock=JUMPED)
    assert _without_doubles("a.mpg", single, JUMPED, False) is single


@pytest.mark.parametrize(
    ("pts", "dts", "may_be"),
    [
        ([0, 10, 20], [0, 10, 20], True),
        ([20, 30, 40], [0, 10, 20], True),
        ([0, None, 20], [0, None, 20], True),
        ([10, None, 20, None], [0, None, 20, None], False),
    ],
)
def test_stored_times_of_some_frames_that_are_not_those_of_decoding_are_times_of_presentation(pts, dts, may_be):
    assert _may_be_decoding_times(packets(*pts, dts=dts)) is may_be


@pytest.mark.parametrize(
    ("depth", "times", "contradicts"),
    [
        (2, [0, 10, 20], True),
        (1, [0, 10, 20], True),
        (0, [0, 10, 20], False),
        (2, [0, 20, 10], False),
        (2, [0, None, 10], True),
        (2, [0], False),
    ],
)
def test_a_decoder_that_reorders_cannot_show_frames_in_the_order_of_the_file(depth, times, contradicts):
    stream = SimpleNamespace(codec_context=SimpleNamespace(reorder_depth=depth))
    assert contradicts_decoder(stream, times) is contradicts


@pytest.mark.parametrize(
    ("name", "codec", "tag", "guesses"),
    [
        ("avi", "h264", "H264", True),
        ("avi", "mjpeg", "MJPG", False),  # shown as stored
        ("asf", "mpeg4", "MP4V", True),
        ("matroska,webm", "mpeg4", "XVID", True),  # with AVI's headers
        ("matroska,webm", "mpeg4", "\0\0\0\0", False),
        ("mov,mp4,m4a", "mpeg4", "mp4v", False),
    ],
)
def test_times_are_guesses_in_containers_that_store_decoding_times_alone(name, codec, tag, guesses):
    container = SimpleNamespace(format=SimpleNamespace(name=name))
    stream = SimpleNamespace(codec_context=SimpleNamespace(name=codec, codec_tag=tag))
    assert _guesses_times(container, stream) is guesses


def test_no_packet_that_is_never_shown_counts_as_a_frame():
    scan = table(0, 10, 20, hidden=(0, 1, 2))
    assert len(scan.shown) == 0
    assert np.all(scan.pts == HIDDEN)
