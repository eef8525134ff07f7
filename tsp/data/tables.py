"""The CSV tables of a data set: which columns they have and how their values are written."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsp.data.segments import video_name
from tsp.errors import DataError
from tsp.store.atomic import new_file

COLUMNS = ("filename", "video-duration", "fps", "video-frames")


METADATA_COLUMNS = ("filename", "video-duration", "fps", "video-frames")
GROUND_TRUTH_COLUMNS = (
    "video-name",
    "t-start",
    "t-end",
    "action-label",
    "video-duration",
    "filename",
    "fps",
    "video-frames",
    "temporal-region-label",
)
ACTION_REGION, BACKGROUND_REGION = REGIONS = ("Action", "No action")
"""The temporal-region label map of every TSP data set."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What the metadata CSV says of one video."""

    filename: str
    duration_sec: float
    fps: float
    num_frames: int

    def row(self) -> dict[str, Any]:
        """The video's row in the metadata CSV."""
        return {
            "filename": self.filename,
            "video-duration": self.duration_sec,
            "fps": self.fps,
            "video-frames": self.num_frames,
        }


def ground_truth_row(
    video: VideoFacts, video_name: str, start_sec: float, end_sec: float, action: str | None
) -> dict[str, Any]:
    """One segment's row; ``action`` None makes it a background segment."""
    return {
        **video.row(),
        "video-name": video_name,
        "t-start": start_sec,
        "t-end": end_sec,
        "action-label": action or "",
        "temporal-region-label": BACKGROUND_REGION if action is None else ACTION_REGION,
    }


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a CSV, whole or not at all; floats keep all their digits."""
    with new_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write a label map: a JSON list, the index is the class id."""
    with new_file(path) as partial:
        partial.write_text(json.dumps(list(labels), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_metadata(path: Path) -> list[VideoFacts]:
    """The videos of a metadata CSV, in its order.

    Raises: DataError naming file and line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(
            f"cannot read the metadata CSV {path}: {error.strerror}; write it with 'tspctl data probe'"
        ) from error
    videos = []
    for line, row in enumerate(rows, start=2):
        try:
            videos.append(
                VideoFacts(
                    row["filename"], float(row["video-duration"]), float(row["fps"]), int(float(row["video-frames"]))
                )
            )
        except KeyError as error:
            raise DataError(f"{path} has no column {error}; it needs {', '.join(METADATA_COLUMNS)}") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}, line {line}: {error}") from error
    return videos


@dataclass(frozen=True, slots=True)
class VideoRow:
    """One video of the table."""

    filename: str
    num_frames: int
    fps: float

    @property
    def name(self) -> str:
        """Key of its features: the file name without extension."""
        return video_name(self.filename)

    @property
    def duration_sec(self) -> float:
        """As its frames say: what shards are balanced by."""
        return self.num_frames / self.fps


def load_metadata(path: Path) -> list[VideoRow]:
    """The videos of a metadata CSV, in its order.

    Raises: DataError naming file, row and column; two videos of one name are refused, their features would collide.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the metadata table {path}: {error}") from error
    if not rows:
        raise DataError(f"the metadata table {path} names no video: write it with 'tspctl data probe'")
    for column in (COLUMNS[0], *COLUMNS[2:]):
        if column not in rows[0]:
            raise DataError(f"{path} lacks the column {column!r}; 'tspctl data probe' writes {', '.join(COLUMNS)}")
    videos = [
        VideoRow(
            filename=row["filename"] or "",
            num_frames=round(_number(row["video-frames"], f"{path} row {number}: video-frames")),
            fps=_number(row["fps"], f"{path} row {number}: fps"),
        )
        for number, row in enumerate(rows, start=2)
    ]
    _check_names(path, videos)
    return videos


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise DataError(f"{where} is {text!r}, not a number above 0: probe the videos again with 'tspctl data probe'")
    return value


def _check_names(path: Path, videos: list[VideoRow]) -> None:
    for row, video in enumerate(videos, start=2):
        if not video.name:
            raise DataError(f"{path} row {row}: filename is empty")
    name, times = Counter(video.name for video in videos).most_common(1)[0]
    if times > 1:
        raise DataError(
            f"{path} names {times} videos {name!r} (file names without extension are the keys of the features): "
            f"leave all but one out"
        )
