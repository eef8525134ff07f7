"""The CSV tables of a data set: how they are read, and how they are written.

Every reader of a table uses this module (the loader, ``check``, ``annotate``, ``extract``, the checks before a submit),
so all of them accept the same tables. Only the standard library is imported, so tables can be read without torch and
numpy. Empty lines are skipped; rows are numbered by the file's lines.
"""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tsp.data.text_files import read_text
from tsp.errors import DataError
from tsp.store.atomic import new_file
from tsp.wording import counted

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
MAX_FRAMES = 100_000_000
"""A month at 30 fps; a table that claims more is damaged, and listing its clips would fill the memory."""
_NEEDED_OF_METADATA = ("filename", "fps", "video-frames")
"""Old tables have no video-duration; it is derived from these."""
ACTION_REGION, BACKGROUND_REGION = REGIONS = ("Action", "No action")
"""The temporal-region label map of every TSP data set."""


class RowProblem(NamedTuple):
    """Why a row of a table cannot be used."""

    line: int
    """Line of the file, from 1."""
    message: str


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a CSV file as text."""

    path: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    """The cells of each row, one per column."""
    lines: list[int]
    """Line of the file that each row begins at."""
    problems: list[RowProblem]
    """Rows left out because they have more or fewer cells."""

    def cells(self, column: str) -> list[str] | None:
        """A column's texts; None if the table does not have it."""
        if column not in self.columns:
            return None
        index = self.columns.index(column)
        return [cells[index] for cells in self.rows]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The facts about one video in the metadata CSV."""

    filename: str
    duration_sec: float
    fps: float
    num_frames: int

    @property
    def name(self) -> str:
        """Key of its features: the file name without extension."""
        return video_name(self.filename)

    def row(self) -> dict[str, Any]:
        """The video's row in the metadata CSV."""
        return {
            "filename": self.filename,
            "video-duration": self.duration_sec,
            "fps": self.fps,
            "video-frames": self.num_frames,
        }


def video_name(filename: str) -> str:
    """Key of a video's features: its file name without extension."""
    return Path(filename).stem


def composed(name: str) -> str:
    """The name in one Unicode form: systems differ in how they encode an accented letter."""
    return unicodedata.normalize("NFC", name)


def read_table(path: str | Path, what: str, needed: Sequence[str], content: bytes | None = None) -> Table:
    """The rows of a CSV file.

    Args: needed, columns it must have; content, its bytes if they are read already.
    Raises: DataError if it cannot be read, is empty, or lacks a column.
    """
    reader = csv.reader(io.StringIO(read_text(path, what, content), newline=""), strict=True)
    lines, rows = [], []
    try:
        line = 1
        for cells in reader:
            if "".join(cells).strip():
                lines.append(line)
                rows.append(cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"the {what} {path} is not CSV from line {line} on: {error}") from error
    if not rows:
        raise DataError(f"the {what} {path} is empty")
    columns = tuple(name.strip() for name in rows[0])
    _require_columns(path, columns, needed)
    problems = [
        RowProblem(line, f"has {counted(len(cells), 'field')}, but the header has {len(columns)}")
        for line, cells in zip(lines[1:], rows[1:], strict=True)
        if len(cells) != len(columns)
    ]
    if problems:
        left_out = {problem.line for problem in problems}
        kept = [(line, cells) for line, cells in zip(lines[1:], rows[1:], strict=True) if line not in left_out]
        return Table(str(path), columns, [cells for _, cells in kept], [line for line, _ in kept], problems)
    return Table(str(path), columns, rows[1:], lines[1:], problems)


def _require_columns(path: str | Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    for name in dict.fromkeys((*needed, *METADATA_COLUMNS, *GROUND_TRUTH_COLUMNS)):
        if columns.count(name) > 1:
            raise DataError(f"{path} has the column {name!r} {columns.count(name)} times: remove all but one")
    for name in needed:
        if name not in columns:
            separator = next((mark for mark in ";\t|" if mark in columns[0]), None) if len(columns) == 1 else None
            cure = f": it is separated by {separator!r}, save it with commas" if separator else ""
            raise DataError(f"{path} lacks the column {name!r}; its header has {', '.join(columns)}{cure}")


def number_in(text: str) -> float:
    """The finite number in a cell; nan for anything else."""
    if "_" in text:
        return math.nan  # Python's own, which no other reader of tables takes for a number
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def refuse(path: str, problems: Sequence[RowProblem]) -> None:
    """Raises: DataError naming the first unusable row and the number of others, if there are any."""
    if problems:
        line, message = min(problems)
        others = f" ({counted(len(problems) - 1, 'more row')} cannot be used)" if len(problems) > 1 else ""
        raise DataError(f"{path} row {line}{'' if message.startswith('has ') else ':'} {message}{others}")


def read_metadata(path: str | Path) -> list[VideoFacts]:
    """The videos of a metadata CSV, in its order.

    Raises: DataError naming file, row and column.
    """
    table = read_table(path, "metadata table", _NEEDED_OF_METADATA)
    found: list[VideoFacts | RowProblem] = list(_facts(table))
    problems = [item for item in found if isinstance(item, RowProblem)]
    refuse(table.path, [*table.problems, *problems])
    videos = [item for item in found if isinstance(item, VideoFacts)]
    if not videos:
        raise DataError(f"the metadata table {path} names no videos: write it with 'tspctl data probe'")
    return videos


def _facts(table: Table) -> Iterator[VideoFacts | RowProblem]:
    present = [name for name in METADATA_COLUMNS if name in table.columns]
    for line, cells in zip(table.lines, table.rows, strict=True):
        texts = {name: cells[table.columns.index(name)] for name in present}
        filename = texts.pop("filename")
        numbers = {name: number_in(text) for name, text in texts.items()}
        bad = next((name for name, number in numbers.items() if not number > 0), None)
        if not filename:
            yield RowProblem(line, "filename is empty")
        elif numbers["video-frames"] > MAX_FRAMES:
            yield RowProblem(line, f"video-frames is {texts['video-frames']}, more than any video has")
        elif bad is not None:
            cure = "probe the videos again with 'tspctl data probe'"
            yield RowProblem(line, f"{bad} is {texts[bad]!r}, not a number above 0: {cure}")
        else:
            num_frames, fps = max(1, round(numbers["video-frames"])), numbers["fps"]
            yield VideoFacts(filename, numbers.get("video-duration", num_frames / fps), fps, num_frames)


def refuse_shared_names(path: str | Path, filenames: Iterable[str]) -> None:
    """Raises: DataError if two files differ only in folder, extension or Unicode form: their features share a key."""
    seen: dict[str, str] = {}
    for filename in filenames:
        key = composed(video_name(filename))
        other = seen.get(key)
        seen[key] = filename
        if other is not None:
            named = f"{filename} twice" if other == filename else f"{other} and {filename}"
            raise DataError(
                f"{path} names two videos {video_name(filename)!r}: {named} (file names without folder and extension "
                f"are the keys of the features); rename one of them, or leave it out"
            )


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
    """Write a CSV atomically; floats keep all their digits."""
    with new_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
