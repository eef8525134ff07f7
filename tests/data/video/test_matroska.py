"""How a Matroska file has its picture cropped, from elements written byte by byte."""

import pytest

from tsp.data.video.matroska import pixel_crop

SEGMENT, TRACKS, TRACK, VIDEO, CLUSTER = (
    bytes.fromhex(text) for text in ("18538067", "1654AE6B", "AE", "E0", "1F43B675")
)
TOP, BOTTOM, LEFT, RIGHT, WIDTH = (bytes.fromhex(text) for text in ("54BB", "54AA", "54CC", "54DD", "B0"))
HEADER = bytes.fromhex("1A45DFA3")


def element(number: bytes, content: bytes = b"", *, width: int = 1) -> bytes:
    """An element whose length is written in so many bytes."""
    return number + (len(content) | 1 << 7 * width).to_bytes(width) + content


def track(*crops: bytes) -> bytes:
    return element(TRACK, element(b"\xd7", b"\1") + element(VIDEO, element(WIDTH, b"\1\x40") + b"".join(crops)))


def file_of(*tracks: bytes, before: bytes = b"", width: int = 4) -> bytes:
    content = before + element(TRACKS, b"".join(tracks), width=2)
    return element(HEADER, b"\x42\x86\x81\1") + element(SEGMENT, content, width=width)


CROPPED = track(element(TOP, b"\x08"), element(BOTTOM, b"\0"), element(LEFT, b"\1\2"), element(RIGHT, b"\3", width=2))


@pytest.mark.parametrize(
    ("data", "number", "crop"),
    [
        (file_of(CROPPED), 0, {"top": 8, "left": 258, "right": 3}),
        (file_of(track(), CROPPED), 0, {}),
        (file_of(track(), CROPPED), 1, {"top": 8, "left": 258, "right": 3}),
        (file_of(CROPPED), 1, {}),
        (file_of(CROPPED, width=8), 0, {"top": 8, "left": 258, "right": 3}),
        (file_of(track(element(BOTTOM, b"\x10"))), 0, {"bottom": 16}),
        (file_of(CROPPED, before=element(b"\xec", b"void")), 0, {"top": 8, "left": 258, "right": 3}),
        (file_of(CROPPED, before=element(CLUSTER, b"pictures")), 0, {}),
        (b"", 0, {}),
        (b"\0" * 50, 0, {}),
        (file_of(CROPPED)[:30], 0, {}),
        (element(HEADER), 0, {}),
    ],
)
def test_crops_are_read_from_the_description_of_the_track(tmp_path, data, number, crop):
    path = tmp_path / "a.mkv"
    path.write_bytes(data)
    assert pixel_crop(path, number) == crop


def test_a_segment_of_unknown_length_goes_to_the_end(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(element(HEADER) + SEGMENT + b"\x01" + b"\xff" * 7 + element(TRACKS, CROPPED, width=2))
    assert pixel_crop(path, 0) == {"top": 8, "left": 258, "right": 3}
