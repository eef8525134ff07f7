"""Which packets hold the second field of a frame, from headers written bit by bit as ITU-T H.264, 7.3, lists them."""

import pytest

from tests.data.video.field_coded import _Bits, _unit
from tsp.data.video.h264_fields import FieldPairs

BASELINE, MAIN, EXTENDED, HIGH, HIGH_444, CAVLC_444 = 66, 77, 88, 100, 244, 44
WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles whose sequences say more of colours, in the order of 7.3.2.1.1."""


def scaling_list(bits: _Bits, *deltas: int) -> None:
    """7.3.2.1.1.1: the numbers' differences, signed."""
    bits.u(1, 1)
    for delta in deltas:
        bits.ue(2 * delta - 1 if delta > 0 else -2 * delta)


def sequence(
    *, profile=MAIN, frame_num_bits=8, order=0, chroma=1, planes=0, scaling=None, fields=True, cycle=(), id_=0
) -> bytes:
    """7.3.2.1.1, up to the mark of frames that may be fields.

    Args: scaling, what writes the scaling lists, given the number of them.
    """
    bits = _Bits().u(profile, 8).u(0, 8).u(31, 8).ue(id_)
    if profile in WITH_CHROMA:
        bits.ue(chroma)
        if chroma == 3:
            bits.u(planes, 1)
        bits.ue(2, 2).u(0, 1).u(scaling is not None, 1)
        if scaling is not None:
            scaling(bits, 12 if chroma == 3 else 8)
    bits.ue(frame_num_bits - 4, order)
    if order == 0:
        bits.ue(4)
    elif order == 1:
        bits.u(0, 1).ue(1, 2, len(cycle), *cycle)
    bits.ue(1).u(0, 1).ue(5, 1)
    return _unit(0x67, bits.u(not fields, 1).u(1, 1).u(0, 3).aligned(stop=True))


def picture(frame_num, parity=None, *, frame_num_bits=8, header=0x21, planes=0, numbers=(0, 7, 0)) -> bytes:
    """7.3.3: the beginning of a slice, of a whole frame where there is no parity."""
    bits = _Bits().ue(*numbers)
    if planes:
        bits.u(2, 2)
    bits.u(frame_num, frame_num_bits).u(parity is not None, 1)
    if parity is not None:
        bits.u(parity, 1)
    return _unit(header, bits.u(0x5A5A5A, 24).aligned(stop=True))


def seconds(pairs: FieldPairs, *packets: bytes) -> list[bool]:
    return [pairs.is_second(packet) for packet in packets]


def flat(bits: _Bits, number: int) -> None:
    bits.u(0, number)


def falling(bits: _Bits, number: int) -> None:
    """All lists in full: six of 4x4 numbers and the rest of 8x8."""
    for at in range(number):
        scaling_list(bits, *([1, -1] * (8 if at < 6 else 32)))


def ended_early(bits: _Bits, number: int) -> None:
    """Every other list, which goes on with its last number behind a next number of 0: 8 + 3 - 11."""
    for at in range(number):
        if at % 2:
            bits.u(0, 1)
        else:
            scaling_list(bits, 3, -11)


def wrapped(bits: _Bits, number: int) -> None:
    """Numbers count modulo 256: 8 - 9 is 255, and 255 + 1 is 0, which ends the list."""
    for _ in range(number):
        scaling_list(bits, -9, 1)


@pytest.mark.parametrize(
    "form",
    [
        {"profile": BASELINE, "frame_num_bits": 4},
        {"profile": EXTENDED},
        *({"profile": profile, "scaling": flat} for profile in WITH_CHROMA),
        {"frame_num_bits": 4},
        {"frame_num_bits": 16},
        {"id_": 31},
        {"order": 1, "cycle": (1, 2, 3)},
        {"order": 1},
        {"order": 2},
        {"profile": HIGH},
        {"profile": HIGH, "order": 2, "frame_num_bits": 5},
        {"profile": HIGH_444, "chroma": 3},
        {"profile": HIGH_444, "chroma": 3, "planes": 1},
        {"profile": CAVLC_444, "chroma": 3, "planes": 1},
        *({"profile": HIGH, "scaling": lists} for lists in (flat, falling, ended_early, wrapped)),
        *({"profile": HIGH_444, "chroma": 3, "scaling": lists} for lists in (flat, falling, ended_early, wrapped)),
    ],
)
def test_second_fields_are_found_whatever_the_form_of_the_sequence(form):
    more = {"frame_num_bits": form.get("frame_num_bits", 8), "planes": form.get("planes", 0)}
    last = 2 ** more["frame_num_bits"] - 1
    pairs = FieldPairs.of("h264", sequence(**form))
    assert pairs is not None
    stream = [picture(last, 0, **more), picture(last, 1, **more), picture(0, **more), picture(1, 1, **more),
              picture(1, 0, **more), picture(2, **more)]  # fmt: skip
    assert seconds(pairs, *stream) == [False, True, False, False, True, False]
    assert FieldPairs.of("h264", sequence(**form, fields=False)) is None


def test_a_second_field_is_the_other_one_of_the_frame_just_before():
    pairs = FieldPairs.of("h264", sequence())
    assert seconds(pairs, picture(1, 0), picture(1, 0), picture(1, 1)) == [False, False, True]
    assert seconds(pairs, picture(2, 0), picture(3, 1), picture(3, 0)) == [False, False, True]
    assert seconds(pairs, picture(4, 0), picture(4, 1), picture(4, 0)) == [False, True, False]
    assert seconds(pairs, picture(5, 0), picture(5), picture(5, 1)) == [False, False, False]
    assert seconds(pairs, picture(6, 0), picture(6, 0) + picture(6, 1), picture(6, 1)) == [False, False, False]
    assert seconds(pairs, picture(7, 0), b"", picture(7, 1)) == [False, False, False]


def test_all_slices_of_a_packet_count_and_nothing_else_does():
    pairs = FieldPairs.of("h264", sequence())
    message, delimiter = _unit(6, b"\xff\xff\xff\xff"), _unit(9, b"\xf0")
    first = delimiter + message + picture(9, 0, header=0x65) + picture(9, 0, numbers=(99, 7, 3), header=0x65)
    second = message + picture(9, 1, header=0x22) + _unit(3, b"\x80\x80\x80\x80")
    assert seconds(pairs, first, second) == [False, True]
    # A slice cut off before its mark says nothing.
    assert seconds(pairs, picture(8, 0), picture(8, 1) + b"\0\0\1\x21\xff") == [False, True]
    assert seconds(pairs, picture(8, 0), b"\0\0\1\x21\x80") == [False, False]


@pytest.mark.parametrize("length_bytes", [1, 2, 4])
def test_units_of_mp4_files_stand_behind_their_lengths(length_bytes):
    def unit(content: bytes) -> bytes:
        bare = content[4:]
        return len(bare).to_bytes(length_bytes) + bare

    bare = sequence(profile=HIGH, scaling=falling)[4:]
    extradata = bytes((1, bare[1], bare[2], bare[3], 0xFC | length_bytes - 1, 0xE1)) + len(bare).to_bytes(2) + bare
    pairs = FieldPairs.of("h264", extradata)
    first = unit(_unit(6, b"\1\2\3")) + unit(picture(1, 0)) + unit(picture(1, 0))
    assert seconds(pairs, first, unit(picture(1, 1)), first[:-9]) == [False, True, False]


@pytest.mark.parametrize(
    ("codec", "extradata"),
    [
        ("hevc", sequence()),
        ("h264", None),
        ("h264", b""),
        ("h264", b"\1"),
        ("h264", _unit(0x68, b"\xff")),
        ("h264", sequence()[:9]),
        ("h264", sequence(profile=HIGH, scaling=falling)[:12]),
    ],
)
def test_streams_whose_sequence_is_another_missing_or_cut_off_have_no_pairs(codec, extradata):
    assert FieldPairs.of(codec, extradata) is None


def test_the_sequence_is_found_behind_other_units():
    assert FieldPairs.of("h264", _unit(9, b"\xf0") + _unit(6, b"\1\2") + sequence() + _unit(0x68, b"\xff")) is not None
