"""Annotations for localisation code: one JSON in ActivityNet's format, with the fields that its loaders read.

``duration`` is in seconds; ``fps`` and ``frame`` refer to the rate at which clips are sampled, because OpenTAD's THUMOS
loader converts seconds to positions by ``frame / duration``, whatever the file's own rate. Entries are named like
features: without the folder and extension with which annotations may spell a video.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tsp.errors import DataError
from tsp.prepare.find_videos import VIDEO_SUFFIXES

Database = dict[str, dict[str, Any]]


def localisation_database(
    rows: Iterable[Mapping[str, Any]], labels: Sequence[str], *, subset: str, rate_fps: float
) -> Database:
    """Entries of the videos of a ground-truth table; background is left out.

    Args: rows, of the table; labels, whose positions are the ids; subset, what the reading code calls this part.
    Raises: DataError if two videos would have the same entry.
    """
    database: Database = {}
    name_of: dict[str, str] = {}
    for row in rows:
        if not row["action-label"]:
            continue
        duration_sec = float(row["video-duration"])
        key = _key(row["video-name"])
        other = name_of.setdefault(key, row["video-name"])
        if other != row["video-name"]:
            raise DataError(
                f"the annotated videos {other!r} and {row['video-name']!r} would both be {key!r} for localisation "
                "code: rename one of them, or write their folders to files of their own with --folder"
            )
        entry = database.setdefault(
            key,
            {
                "subset": subset,
                "duration": duration_sec,
                "fps": rate_fps,
                "frame": round(duration_sec * rate_fps),
                "annotations": [],
            },
        )
        label = row["action-label"]
        segment = [float(row["t-start"]), float(row["t-end"])]
        entry["annotations"].append({"segment": segment, "label": label, "label_id": labels.index(label)})
    return database


def _key(name: str) -> str:
    """Key of a video's features, from its name in annotations."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def merged(before: bytes | None, database: Database, *, where: str) -> bytes:
    """JSON of the entries and of the file's entries for other videos, since subsets are written one by one.

    Raises: DataError if the file is not such a JSON, numbers the labels differently, or has a video in another subset.
    """
    entries: Database = {}
    if before is not None:
        try:
            entries = json.loads(before)["database"]
            _numbered(entries)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{where} exists but was not written by --json: choose another name") from error
        kept = {name: entry for name, entry in entries.items() if name not in database}
        _refuse_other_numbers(_numbered(kept), _numbered(database), where)
        _refuse_other_subsets(entries, database, where)
    return (json.dumps({"database": {**entries, **database}}, indent=1) + "\n").encode()


def _numbered(entries: Database) -> set[tuple[str, int]]:
    """The labels of the entries, each with its number."""
    return {(item["label"], item["label_id"]) for entry in entries.values() for item in entry["annotations"]}


def _refuse_other_numbers(before: set[tuple[str, int]], now: set[tuple[str, int]], where: str) -> None:
    """Raises: DataError if a label has another number, or a number another label."""
    id_of, label_of = dict(before), {number: label for label, number in before}
    for label, number in sorted(now, key=lambda item: item[1]):
        there = ""
        if id_of.get(label, number) != number:
            there = f"{label!r} as class {id_of[label]}, but here it is {number}"
        elif label_of.get(number, label) != label:
            there = f"{label_of[number]!r} as class {number}, but here that is {label!r}"
        if there:
            raise DataError(f"{where} has {there}: give both commands the same --labels")


def _refuse_other_subsets(before: Database, now: Database, where: str) -> None:
    """Raises: DataError if a video would move from one subset to another."""
    for name, entry in now.items():
        was, becomes = before.get(name, {}).get("subset"), entry.get("subset")
        if None not in (was, becomes) and was != becomes:
            raise DataError(
                f"{where} has the video {name!r} in the subset {was!r}, but here it is in {becomes!r}: training and "
                "validation must not share videos; correct --subset, or choose another name for --json"
            )
