"""Errors of video files, and the one place where errors of libraries become ours."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsp.data.foreign_files import HEAD_BYTES, what_begins
from tsp.data.video.boxes import lacks_index
from tsp.errors import DataError, TspError

_LISTS = frozenset({"concat", "concatf", "hls", "dash", "imf", "sdp"})
"""Formats that read other files, or the network, by what is written in a text."""
_PICTURES = frozenset({"image2", "image2pipe", "ico"})


class VideoError(DataError):
    """A video cannot be opened or a clip of it cannot be decoded; the message names the file and the time."""


@contextmanager
def reading(path: str | Path, trouble: str = "cannot be read") -> Iterator[None]:
    """Errors of libraries in this block become a VideoError: "PATH trouble: reason". For damaged files, libraries raise
    nearly any type (EOFError, IndexError, MemoryError), so all are caught.
    """
    try:
        yield
    except TspError:
        raise
    except Exception as error:
        raise VideoError(f"{path} {trouble}: {reason_of(error)}") from error


def refuse_what_is_no_file(path: str) -> None:
    """Raises: VideoError for a folder, a pipe or a device, whose opening may never return; OSError."""
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        what = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or device"
        raise VideoError(f"cannot open the video {path}: it is {what}, not a file")
    if not about.st_size:
        raise VideoError(f"cannot open the video {path}: it is empty")


def hint(path: str) -> str:
    """The probable problem of a file that cannot be opened, to append to the reason; may be empty."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            if head[4:8] in (b"styp", b"moof", b"sidx"):
                return " (it is a segment of a stream: join its initialisation segment and all segments into one file)"
            if head[4:8] == b"ftyp" and lacks_index(file):
                return " (its index, which MP4 and MOV often have at the end, is missing: was it copied whole?)"
    except OSError:
        return ""
    foreign = what_begins(head)
    return f" ({foreign})" if foreign else ""


def refuse_what_is_no_video(path: str, format_name: str) -> None:
    """Raises: VideoError for what FFmpeg opens as if it were one: a picture, or a list of other files."""
    if format_name in _LISTS:
        raise VideoError(f"{path} is a list of other files, not a video: give the files themselves")
    if format_name.endswith("_pipe") or format_name in _PICTURES:
        raise VideoError(
            f"{path} is a picture, not a video: 'ffmpeg -framerate 30 -i IMG%04d.png OUT.mp4' makes a video of pictures"
        )


def reason_of(error: Exception) -> str:
    """The text of an error, without the number and the file name of FFmpeg's errors."""
    if getattr(error, "errno", None) == errno.EPERM and getattr(error, "filename", None) is None:
        return "the decoder gives no reason"  # FFmpeg's codecs return -1, which is EPERM, where they have no number
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
