"""The boxes of MP4 and MOV files, whole and damaged, written byte by byte."""

import struct
from pathlib import Path

import pytest

from tests.data.video.rewritten import box
from tsp.data.video.boxes import Box, clean_aperture, is_truncated, joined_at, lacks_index, top_level


@pytest.fixture
def written(tmp_path: Path):
    """Writes a file of these bytes."""

    def write(data: bytes) -> Path:
        path = tmp_path / "a.mp4"
        path.write_bytes(data)
        return path

    return write


def boxes_of(path: Path) -> list[Box]:
    with open(path, "rb") as file:
        return list(top_level(file))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (box(b"ftyp", b"isom") + box(b"free"), [(b"ftyp", 8, 12), (b"free", 20, 20)]),
        (box(b"mdat", b"abc", large=True) + box(b"moov"), [(b"mdat", 16, 19), (b"moov", 27, 27)]),
        (box(b"ftyp") + struct.pack(">I4s", 0, b"mdat") + b"to the end", [(b"ftyp", 8, 8), (b"mdat", 16, 26)]),
        (box(b"ftyp") + struct.pack(">I4s", 100, b"moov") + b"cut", [(b"ftyp", 8, 8), (b"moov", 16, 108)]),
        (box(b"ftyp") + struct.pack(">I4s", 7, b"moov"), [(b"ftyp", 8, 8)]),
        (box(b"ftyp") + struct.pack(">I4sQ", 1, b"moov", 15), [(b"ftyp", 8, 8)]),
        (box(b"ftyp") + b"1234567", [(b"ftyp", 8, 8)]),
    ],
)
def test_boxes_are_walked_through_and_damage_ends_the_walk(written, data, found):
    assert boxes_of(written(data)) == [Box(*item) for item in found]


@pytest.mark.parametrize(
    ("data", "lacks"),
    [
        (box(b"ftyp") + box(b"moov", b"x"), False),
        (box(b"ftyp") + box(b"mdat"), True),
        (box(b"ftyp") + box(b"moov", b"xyz")[:-1], True),
        (b"", True),
    ],
)
def test_an_index_that_is_not_there_or_not_whole_is_missed(written, data, lacks):
    with open(written(data), "rb") as file:
        assert lacks_index(file) is lacks


ONE = box(b"ftyp", b"isom") + box(b"moov", b"index") + box(b"mdat", b"pictures")


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (ONE, None),
        (ONE + ONE, len(ONE)),
        (ONE + ONE + ONE, len(ONE)),
        (box(b"free", b"x") + ONE, None),
        (ONE + box(b"ftyp"), None),
        (ONE + box(b"moov"), None),
    ],
)
def test_a_second_file_begins_where_another_type_and_another_index_follow(written, data, at):
    assert joined_at(written(data)) == at


def cropped(clap: bytes, *, size=(320, 180), name: bytes = b"clap") -> bytes:
    """A file whose only track has a picture of a size and a box in its description."""
    entry = bytearray(86)
    struct.pack_into(">I4s", entry, 0, 86 + 8 + len(clap), b"avc1")
    struct.pack_into(">HH", entry, 32, *size)
    content = box(b"stsd", bytes(8) + bytes(entry) + box(name, clap))
    for container in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        content = box(container, content)
    return box(b"ftyp") + content


def aperture(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers) + bytes(16)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (cropped(aperture(300, 1, 160, 1)), (300, 160)),
        (cropped(aperture(640, 2, 161, 1)), (320, 161)),
        (cropped(aperture(601, 2, 180, 1)), (300, 180)),
        (cropped(aperture(320, 1, 180, 1)), None),
        (cropped(aperture(0, 1, 180, 1)), None),
        (cropped(aperture(300, 0, 180, 1)), None),
        (cropped(aperture(300, 1, 180, 0)), None),
        (cropped(aperture(300, 1, 160, 1)[:16]), (300, 160)),
        (cropped(aperture(300, 1, 160, 1)[:15]), None),
        (cropped(aperture(300, 1, 160, 1), name=b"pasp"), None),
        (box(b"ftyp"), None),
        (cropped(aperture(300, 1, 160, 1))[:60], None),
    ],
)
def test_what_players_cut_a_picture_to_is_read_where_it_is_said_in_full(written, data, size):
    assert clean_aperture(written(data)) == size


def test_what_comes_before_the_index_does_not_matter_and_a_box_of_no_length_ends_the_walk(written):
    data = cropped(aperture(300, 1, 160, 1))
    assert clean_aperture(written(box(b"free", b"x" * 5) + data)) == (300, 160)
    at = data.index(b"stbl") - 4
    assert clean_aperture(written(data[:at] + struct.pack(">I", 7) + data[at + 4 :])) is None


@pytest.mark.parametrize(
    ("head", "size_bytes", "is_short"),
    [
        (box(b"ftyp") + box(b"mdat", b"abc"), 19, False),
        (box(b"ftyp") + box(b"mdat", b"abc"), 18, True),
        (box(b"ftyp") + box(b"mdat", b"abc"), 30, False),
        (box(b"ftyp") + struct.pack(">I4s", 100, b"mdat"), 108, False),  # only the beginning was fetched
        (box(b"ftyp") + struct.pack(">I4s", 100, b"mdat"), 107, True),
        (b"", 0, True),
        (b"any text that is no MP4 file", 28, False),
    ],
)
def test_a_file_is_truncated_where_a_box_goes_beyond_it(written, head, size_bytes, is_short):
    assert is_truncated(written(head), size_bytes) is is_short
