"""Text and JSON files from other programs.

Another encoding than ``tsp.config.text_file`` reads is refused rather than guessed: a wrong guess would silently change
file names.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tsp.config.text_file import decoded, read_file
from tsp.data.foreign_files import HEAD_BYTES, what_begins
from tsp.errors import DataError


def read_text(path: str | Path, what: str, content: bytes | None = None) -> str:
    """The text of a table, label map or annotation file.

    Args: what, what the file is, for messages; content, its bytes if they are read already.
    Raises: DataError naming the file, and the line that is not UTF-8.
    """
    name = f"the {what} {path}"
    if content is None:
        content = read_file(Path(path), name, DataError)
    if foreign := what_begins(content[:HEAD_BYTES]):
        raise DataError(f"cannot read {name}: {foreign}")
    text = decoded(content, name, DataError)
    if "\0" in text:
        raise DataError(
            f"{name} contains NUL bytes: it is not text, or UTF-16 without a byte order mark; save it as UTF-8"
        )
    return text


def read_json(path: str | Path, what: str, content: bytes | None = None, *, once: bool = False) -> Any:
    """The content of a JSON file.

    Args: once, refuse duplicate keys of a mapping, of which JSON readers keep the last.
    Raises: DataError naming the file, and line and column where it is not JSON.
    """
    text = read_text(path, what, content)

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            key, times = Counter(key for key, _ in pairs).most_common(1)[0]
            raise DataError(f"the {what} {path} has the key {key!r} {times} times in one mapping: keep one of them")
        return result

    try:
        return json.loads(text, object_pairs_hook=distinct if once else None)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the {what} {path} is not JSON: {error}") from error
