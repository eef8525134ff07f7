"""Text from other programs: its encoding, and the errors for files that cannot be read.

The encoding is that of the byte order mark, else UTF-8, never guessed. ``name`` is what messages call a file, with its
path: errors have the same wording for every kind of file.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from tsp.errors import TspError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_file(path: Path, name: str, refused: type[TspError]) -> bytes:
    """A whole file.

    Raises: refused, if it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise refused(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error


def decoded(content: bytes, name: str, refused: type[TspError]) -> str:
    """The text of a file's content.

    Raises: refused, naming the line that is not in the file's encoding.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refused(
            f"{name} is not UTF-8 text (line {line} contains the byte 0x{content[error.start]:02X}): save "
            f"it as UTF-8; 'iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW' converts a file from Windows"
        ) from error
