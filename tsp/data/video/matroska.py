"""Information about the picture of a Matroska or WebM file that FFmpeg does not pass on: how players crop it.

Damaged sizes end a walk; nothing here raises for a damaged file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
_TRACKS, _TRACK, _VIDEO = 0x1654AE6B, 0xAE, 0xE0
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
_HEAD_BYTES = 1 << 20
"""Holds the description of the tracks, which comes before the pictures."""


def pixel_crop(path: str | Path, track: int) -> dict[str, int]:
    """Pixels that players cut off the picture, by edge; empty if there are none.

    Args: track, which of the file's tracks, from 0.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    entries = [
        (begin, end)
        for tracks in _within(head, 0, len(head), (SEGMENT, _TRACKS))
        for begin, end in _within(head, *tracks, (_TRACK,))
    ]
    if track >= len(entries):
        return {}
    found = {
        edge: int.from_bytes(head[begin:end])
        for video in _within(head, *entries[track], (_VIDEO,))
        for number, begin, end in _elements(head, *video)
        if (edge := _CROPS.get(number))
    }
    return {edge: pixels for edge, pixels in found.items() if pixels}


def _within(head: bytes, begin: int, end: int, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    for number, inner, inner_end in _elements(head, begin, end):
        if number == path[0]:
            if len(path) == 1:
                yield inner, inner_end
            else:
                yield from _within(head, inner, inner_end, path[1:])


def _elements(head: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number of each element, and where its content begins and ends; up to the first picture."""
    while begin < end:
        number, length, begin = element_head(head, begin)
        if number < 0 or length < 0 or number == CLUSTER:
            return
        yield number, begin, min(begin + length, end)
        begin += length


def element_head(head: bytes, at: int = 0) -> tuple[int, int, int]:
    """Number and length of the element at an offset, and where its content begins; -1 for what is not there."""
    number, at = _number(head, at, keep_mark=True)
    length, at = _number(head, at, keep_mark=False)
    return number, length, at


def _number(head: bytes, at: int, *, keep_mark: bool) -> tuple[int, int]:
    """A number of one to eight bytes, the first of which says how many, and where it ends; -1 beyond the end."""
    width = 9 - head[at].bit_length() if at < len(head) else 9
    if width > 8 or at + width > len(head):
        return -1, at
    number = int.from_bytes(head[at : at + width])
    return (number if keep_mark else number & ((1 << 7 * width) - 1)), at + width
