"""What can be wrong with a video file, and the one boundary where libraries' errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsp.errors import DataError, TspError


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


def reason_of(error: Exception) -> str:
    """What an error says, without the number and the file name that FFmpeg's errors add."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
