"""Ground-truth tables row by row: the usable rows, and the others with the reason.

The loader and ``check`` both read tables through ``read_ground_truth``, so a row is a problem for both or for neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tsp.config.run import ACTION_COLUMN, REGION_COLUMN, ClipConfig
from tsp.data.clips import holds_a_clip
from tsp.data.tables import RowProblem, Table, number_in, read_table, refuse, video_name
from tsp.errors import DataError

NEEDED_COLUMNS = ("filename", "t-start", "t-end", "video-duration")
_OPTIONAL_COLUMNS = ("fps", "video-frames")
_NOT_GIVEN = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
"""What programs write into a cell for no number."""


class SegmentRow(NamedTuple):
    """One usable row; seconds as in the table."""

    line: int
    """Line of the file, counting its header."""
    filename: str
    start_sec: float
    end_sec: float
    duration_sec: float
    fps: float
    """nan where the table gives none."""
    num_frames: float
    """nan where the table gives none."""
    labels: Mapping[str, str]
    """By label column; empty where unlabelled."""

    @property
    def video(self) -> str:
        """Key of the video's features."""
        return video_name(self.filename)

    def clamped_sec(self) -> tuple[float, float]:
        """The segment, clamped to its video."""
        return max(0.0, self.start_sec), min(self.end_sec, self.duration_sec)

    @property
    def is_clamped(self) -> bool:
        """Whether it extends beyond its video."""
        return self.start_sec < 0 or self.end_sec > self.duration_sec

    @property
    def ends_first(self) -> bool:
        """Whether it ends before it starts, as with an end of -1; no clip is taken from it."""
        return self.end_sec < self.start_sec

    def holds_a_clip(self, clips: ClipConfig) -> bool:
        """Whether training can take a clip from it."""
        return holds_a_clip(*self.clamped_sec(), clips.rate_fps, clips.length_frames)


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """A table's rows, usable and not."""

    path: str
    rows: list[SegmentRow]
    problems: list[RowProblem]

    @property
    def num_rows(self) -> int:
        """All rows, usable or not."""
        return len(self.rows) + len(self.problems)

    def kept(self, clips: ClipConfig) -> list[SegmentRow]:
        """The rows that hold a clip, on which a run trains.

        Raises: DataError if a row cannot be used, or none holds a clip.
        """
        refuse(self.path, self.problems)
        kept = [row for row in self.rows if row.holds_a_clip(clips)]
        if not kept:
            raise DataError(no_clips(self, clips))
        return kept


def no_clips(truth: GroundTruth, clips: ClipConfig) -> str:
    """The message for a table without a row that holds a clip."""
    return f"none of the {truth.num_rows} segments of {truth.path} is as long as one clip ({clips.duration_sec:.3f} s)"


def read_ground_truth(
    path: str | Path, label_maps: Mapping[str, Sequence[str]], content: bytes | None = None
) -> GroundTruth:
    """All rows of a ground-truth table.

    Args: label_maps, the classes by label column; content, the file's bytes where they were read before.
    Raises: DataError if the file cannot be read or lacks a column; problems of rows are in ``problems``.
    Source: TSP.
    """
    table = read_table(path, "ground-truth table", [*NEEDED_COLUMNS, *label_maps], content)
    problems, rows = list(table.problems), []
    known = {column: frozenset(["", *names]) for column, names in label_maps.items()}
    for row in _rows(table, list(label_maps)):
        if isinstance(row, SegmentRow):
            unknown = next((column for column, names in known.items() if row.labels[column] not in names), None)
            if unknown is None:
                rows.append(row)
                continue
            names = label_maps[unknown]
            row = RowProblem(
                row.line,
                f"{unknown} {row.labels[unknown]!r} is not in the label map, whose {len(names)} classes begin with "
                f"{names[0]!r}",
            )
        problems.append(row)
    return GroundTruth(str(path), rows, sorted(problems))


def _rows(table: Table, label_columns: list[str]) -> list[SegmentRow | RowProblem]:
    blank = [""] * len(table.rows)
    columns = [table.cells(name) or blank for name in (*NEEDED_COLUMNS, *_OPTIONAL_COLUMNS)]
    shown = dict.fromkeys(name for name in (*label_columns, ACTION_COLUMN, REGION_COLUMN) if name in table.columns)
    labels = zip(*(table.cells(name) or blank for name in shown), strict=True) if shown else [()] * len(table.rows)
    return [
        _row(line, cells, dict(zip(shown, texts, strict=True)))
        for line, cells, texts in zip(table.lines, zip(*columns, strict=True), labels, strict=True)
    ]


def _row(line: int, cells: Sequence[str], labels: Mapping[str, str]) -> SegmentRow | RowProblem:
    filename, *texts = cells
    if not filename:
        return RowProblem(line, "filename is empty")
    start_sec, end_sec, duration_sec, fps, num_frames = map(number_in, texts)
    if math.isnan(start_sec + end_sec + duration_sec):
        bad = next(index for index, text in enumerate(texts) if math.isnan(number_in(text)))
        return RowProblem(line, f"{NEEDED_COLUMNS[bad + 1]} is {texts[bad]!r}, not a number")
    for name, text in zip(_OPTIONAL_COLUMNS, texts[len(NEEDED_COLUMNS) - 1 :], strict=True):
        if math.isnan(number_in(text)) and text.strip().lower() not in _NOT_GIVEN:
            return RowProblem(line, f"{name} is {text!r}, not a number")
    return SegmentRow(line, filename, start_sec, end_sec, duration_sec, fps, num_frames, labels)
