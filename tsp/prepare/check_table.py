"""A ground-truth table row by row: every trouble in it, where the loader stops at the first."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsp.config.run import ACTION_COLUMN, REGION_COLUMN, ClipConfig
from tsp.data.clips import holds_a_clip
from tsp.data.segments import FIRST_ROW, NEEDED_COLUMNS
from tsp.errors import DataError
from tsp.prepare.findings import ERROR, WARNING, DataFinding, Severity

BACKGROUND_REGION = "No action"
_SAME_SEC = 1e-6


@dataclass(frozen=True, slots=True)
class Row:
    """One row whose numbers can be read; seconds as they stand in the table."""

    line: int
    filename: str
    start_sec: float
    end_sec: float
    duration_sec: float
    fps: float | None
    num_frames: float | None
    labels: Mapping[str, str]

    def clamped_sec(self) -> tuple[float, float]:
        """The segment within its video."""
        return max(0.0, self.start_sec), min(self.end_sec, self.duration_sec)


@dataclass(slots=True)
class TableCheck:
    """The rows of a table, what is wrong with them, and how many are left of them."""

    rows: list[Row] = field(default_factory=list)
    findings: list[DataFinding] = field(default_factory=list)
    num_rows: int = 0
    num_kept: int = 0
    num_too_short: int = 0
    num_clamped: int = 0
    kept_per_class: dict[str, Counter[str]] = field(default_factory=dict)
    """Label column -> class -> kept segments."""


def check_table(subset: str, path: Path, label_maps: Mapping[str, Sequence[str]], clips: ClipConfig) -> TableCheck:
    """Check every row of a ground-truth table.

    Args: label_maps, the classes by label column.
    Raises: DataError if the table cannot be read or lacks a column.
    """
    check = TableCheck(kept_per_class={column: Counter() for column in label_maps})
    for line, raw in _read(path, [*NEEDED_COLUMNS, *label_maps]):
        check.num_rows += 1
        complaints: list[tuple[Severity, str]] = []
        row = _parse(line, raw, label_maps, complaints)
        if row is not None:
            check.rows.append(row)
            _check_times(row, complaints)
            _check_labels(row, label_maps, complaints)
            _count(check, row, clips)
        check.findings += [DataFinding(severity, subset, str(path), line, text) for severity, text in complaints]
    check.findings += _contradictions(subset, path, check.rows)
    if check.num_kept == 0:
        text = f"no segment is as long as one clip ({clips.duration_sec:.3f} s)"
        check.findings.append(DataFinding(ERROR, subset, str(path), None, text))
    return check


def _read(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = list(enumerate(reader, start=FIRST_ROW))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the ground-truth table {path}: {error}") from error
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path} lacks the column {missing[0]!r}; its header has {', '.join(header) or 'nothing'}")
    return rows


def _parse(
    line: int, raw: Mapping[str, str], label_columns: Mapping[str, object], complaints: list[tuple[Severity, str]]
) -> Row | None:
    numbers = {name: _number(raw.get(name, "")) for name in (*NEEDED_COLUMNS[1:], "fps", "video-frames")}
    complaints += [
        (ERROR, f"{name} is {raw.get(name)!r}, not a number") for name in NEEDED_COLUMNS[1:] if numbers[name] is None
    ]
    if not raw["filename"]:
        complaints.append((ERROR, "filename is empty"))
    start, end, duration = (numbers[name] for name in ("t-start", "t-end", "video-duration"))
    if start is None or end is None or duration is None or not raw["filename"]:
        return None
    labels = {name: raw.get(name, "") for name in {*label_columns, ACTION_COLUMN, REGION_COLUMN} if name in raw}
    return Row(line, raw["filename"], start, end, duration, numbers["fps"], numbers["video-frames"], labels)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_times(row: Row, complaints: list[tuple[Severity, str]]) -> None:
    if row.end_sec <= row.start_sec:
        complaints.append((ERROR, f"the segment ends at {row.end_sec} s, before it starts at {row.start_sec} s"))
    elif row.start_sec >= row.duration_sec:
        complaints.append((ERROR, f"the segment lies past the video's end: {row.start_sec} s of {row.duration_sec} s"))
    elif row.start_sec < 0 or row.end_sec > row.duration_sec + _SAME_SEC:
        text = f"the segment {row.start_sec} to {row.end_sec} s reaches past the video (0 to {row.duration_sec} s)"
        complaints.append((WARNING, f"{text} and is cut to it"))


def _check_labels(row: Row, label_maps: Mapping[str, Sequence[str]], complaints: list[tuple[Severity, str]]) -> None:
    for column, names in label_maps.items():
        label = row.labels.get(column, "")
        if label and label not in names:
            complaints.append((ERROR, f"{column} {label!r} is not in its label map of {len(names)} classes"))
    action, region = row.labels.get(ACTION_COLUMN), row.labels.get(REGION_COLUMN)
    if action is not None and region and bool(action) == (region == BACKGROUND_REGION):
        complaints.append((WARNING, f"{REGION_COLUMN} is {region!r} but {ACTION_COLUMN} is {action!r}"))


def _count(check: TableCheck, row: Row, clips: ClipConfig) -> None:
    start_sec, end_sec = row.clamped_sec()
    check.num_clamped += row.start_sec < 0 or row.end_sec > row.duration_sec
    if not holds_a_clip(start_sec, end_sec, clips.rate_fps, clips.length_frames):
        check.num_too_short += 1
        return
    check.num_kept += 1
    for column, counter in check.kept_per_class.items():
        if row.labels.get(column):
            counter[row.labels[column]] += 1


def _contradictions(subset: str, path: Path, rows: Sequence[Row]) -> list[DataFinding]:
    """Rows of one video that give it different durations, and rows that are there twice."""
    first_of: dict[str, Row] = {}
    line_of: dict[tuple[object, ...], int] = {}
    findings = []
    for row in rows:
        first = first_of.setdefault(row.filename, row)
        if abs(first.duration_sec - row.duration_sec) > _SAME_SEC:
            text = f"video-duration of {row.filename} is {row.duration_sec}, in row {first.line} {first.duration_sec}"
            findings.append(DataFinding(ERROR, subset, str(path), row.line, text))
        key = (row.filename, row.start_sec, row.end_sec, *sorted(row.labels.items()))
        if line_of.setdefault(key, row.line) != row.line:
            findings.append(
                DataFinding(WARNING, subset, str(path), row.line, f"the same segment as row {line_of[key]}")
            )
    return findings
