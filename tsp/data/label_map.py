"""Label maps: JSON lists of class names, in which a class's position is its id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tsp.data.text_files import read_json
from tsp.errors import DataError
from tsp.store.atomic import new_file


def load_label_map(path: str | Path, content: bytes | None = None) -> tuple[str, ...]:
    """Class names; the index is the class id.

    Raises: DataError unless it is a JSON list of distinct names.
    """
    names = read_json(path, "label map", content)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"the label map {path} must be a JSON list of class names")
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"the label map {path} names the class {twice!r} twice")
    return tuple(names)


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write a label map: a JSON list, the index is the class id."""
    with new_file(path) as partial:
        partial.write_text(json.dumps(list(labels), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
