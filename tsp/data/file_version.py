"""Whether a file is still the one that features were made from, though it may have been copied or touched since."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tsp.store.base import Entry

_END_BYTES = 64 << 10
_TEXT = re.compile(r"(\d+)(?:-(\d*)-([0-9a-f]*))?")


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file of that size with that content."""

    size_bytes: int
    modified: str = ""
    """Its time, as digits; empty in the records of older releases."""
    tag: str = ""
    """Of its content: from the ETag in S3, from both ends of a local file; empty if it is not known."""

    @classmethod
    def of_entry(cls, entry: Entry) -> Self:
        """Of an object in S3."""
        return cls(entry.size_bytes, str(int(entry.modified.timestamp())), _short(entry.version.strip('"').encode()))

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Of a local file, without its tag. Raises: OSError."""
        found = path.stat()
        return cls(found.st_size, str(max(0, found.st_mtime_ns)))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Of its text; None for another one."""
        found = _TEXT.fullmatch(text)
        return None if found is None else cls(int(found[1]), found[2] or "", found[3] or "")

    def __str__(self) -> str:
        return f"{self.size_bytes}-{self.modified}-{self.tag}"

    def may_be(self, other: FileVersion) -> bool:
        """Whether both may be of one file: sizes are equal, and so is the time or the tag, where both are known."""
        if self.size_bytes != other.size_bytes:
            return False
        is_unknown = not (self.modified and other.modified)
        return is_unknown or self.modified == other.modified or bool(self.tag and self.tag == other.tag)


def tag_of(path: Path) -> str:
    """The tag of a local file: its first and last bytes, which hold a video's index. Raises: OSError."""
    with open(path, "rb") as file:
        ends = file.read(_END_BYTES)
        file.seek(max(len(ends), file.seek(0, os.SEEK_END) - _END_BYTES))
        return _short(ends + file.read())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16] if content else ""
