"""What can be wrong with a video file, and the one boundary where libraries' errors become ours."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tsp.errors import DataError, TspError

_HEAD_BYTES = 512
_WEB_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)


class VideoError(DataError):
    """A video cannot be opened or a clip of it cannot be decoded; the message names the file and the time."""


@contextmanager
def reading(path: str | Path, trouble: str = "cannot be read") -> Iterator[None]:
    """Whatever a library raises in this block about a file becomes a VideoError: "PATH trouble: reason".

    Damaged files make libraries raise nearly anything (EOFError, IndexError, MemoryError), so nothing is listed here.
    """
    try:
        yield
    except TspError:
        raise
    except Exception as error:
        raise VideoError(f"{path} {trouble}: {reason_of(error)}") from error


def refuse_what_is_no_file(path: str) -> None:
    """Raises: VideoError for a folder, a pipe or a device, of which opening may never return; OSError."""
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        what = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or device"
        raise VideoError(f"cannot open the video {path}: it is {what}, not a file")
    if not about.st_size:
        raise VideoError(f"cannot open the video {path}: it is empty")


def hint(path: str) -> str:
    """What is probably wrong with a file that cannot be opened, to follow the reason; may be empty."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            if head[4:8] == b"ftyp" and _lacks_index(file):
                return " (its index, which MP4 and MOV often have at the end, is missing: was it copied whole?)"
    except OSError:
        return ""
    return " (it begins like a web page: was the download refused?)" if _WEB_PAGE.match(head) else ""


def _lacks_index(file: BinaryIO) -> bool:
    size_bytes, at = os.fstat(file.fileno()).st_size, 0
    while at + 8 <= size_bytes:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8))
        if name == b"moov":
            return bool(at + length > size_bytes)
        if length < 8:
            return True
        at += length
    return True


def reason_of(error: Exception) -> str:
    """What an error says, without the number and the file name that FFmpeg's errors add."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
