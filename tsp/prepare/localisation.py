"""Annotations for localisation code: one JSON in ActivityNet's format, with the fields that its loaders read.

``duration`` is in seconds; ``fps`` and ``frame`` refer to the rate at which clips are sampled, because OpenTAD's THUMOS
loader converts seconds to positions by ``frame / duration``, whatever the file's own rate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tsp.errors import DataError

Database = dict[str, dict[str, Any]]


def localisation_database(
    rows: Iterable[Mapping[str, Any]], labels: Sequence[str], *, subset: str, rate_fps: float
) -> Database:
    """Entries of the videos of a ground-truth table; background is left out.

    Args: rows, of the table; labels, whose positions are the ids; subset, what the reading code calls this part.
    """
    database: Database = {}
    for row in rows:
        if not row["action-label"]:
            continue
        duration_sec = float(row["video-duration"])
        entry = database.setdefault(
            row["video-name"],
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


def merged(before: str | None, database: Database, *, where: str) -> str:
    """JSON text of the entries and of the file's entries for other videos, since subsets are written one by one.

    Raises: DataError if the file is not such a JSON, or numbers the labels differently.
    """
    entries: Database = {}
    if before is not None:
        try:
            entries = json.loads(before)["database"]
            ids = {item["label"]: item["label_id"] for video in entries.values() for item in video["annotations"]}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where} exists but was not written by --json: choose another name") from error
        for video in database.values():
            for item in video["annotations"]:
                if ids.get(item["label"], item["label_id"]) != item["label_id"]:
                    raise DataError(
                        f"{where} has {item['label']!r} as class {ids[item['label']]}, but here it is "
                        f"{item['label_id']}: give both commands the same --labels"
                    )
    return json.dumps({"database": {**entries, **database}}, indent=1) + "\n"
