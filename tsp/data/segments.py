"""Ground-truth tables as compact arrays: which segments there are, of which files, with which labels."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsp.config.run import ClipConfig
from tsp.data.clips import holds_a_clip
from tsp.errors import DataError

NEEDED_COLUMNS = ("filename", "t-start", "t-end", "video-duration")
UNLABELLED = -1
FIRST_ROW = 2
"""Line of the first segment in a table; its header is line 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment, spelled out."""

    video: str
    """The video's name: its file name without extension, the key of its global video feature."""
    filename: str
    start_sec: float
    end_sec: float
    labels: tuple[int, ...]
    """Class id per head, -1 where unlabelled."""
    file_fps: float | None
    row: int
    """Line of the table, counting its header as 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentCounts:
    """What became of the table's rows."""

    rows: int
    kept: int
    too_short: int
    """Rows left out because they are shorter than one clip once they are clamped."""
    clamped: int
    """Rows that reached past their video's ends and were cut to them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentTable:
    """The kept segments of one table; S segments in F files, H heads."""

    path: str
    filenames: tuple[str, ...]
    """The F file names in order of first appearance."""
    file_index: np.ndarray
    """int32 [S], which file."""
    starts_sec: np.ndarray
    """float64 [S]"""
    ends_sec: np.ndarray
    """float64 [S]"""
    rates_fps: np.ndarray
    """float64 [S], the file's frame rate; nan where the table gives none."""
    labels: np.ndarray
    """int64 [S, H], -1 where unlabelled."""
    rows: np.ndarray
    """int32 [S], line of the table, counting its header as 1."""
    counts: SegmentCounts

    def __len__(self) -> int:
        return len(self.file_index)

    def __getitem__(self, index: int) -> Segment:
        filename = self.filenames[self.file_index[index]]
        fps = float(self.rates_fps[index])
        return Segment(
            video=video_name(filename),
            filename=filename,
            start_sec=float(self.starts_sec[index]),
            end_sec=float(self.ends_sec[index]),
            labels=tuple(int(label) for label in self.labels[index]),
            file_fps=None if math.isnan(fps) else fps,
            row=int(self.rows[index]),
        )

    def where(self, index: int) -> str:
        """The table's file and row, for messages."""
        return f"{self.path} row {self.rows[index]}"


def video_name(filename: str) -> str:
    """Name under which a video's features are kept: its file name without extension."""
    return Path(filename).stem


def load_label_map(path: str | Path) -> tuple[str, ...]:
    """Class names; the index is the class id.

    Raises: DataError if it is no JSON list of different names.
    """
    try:
        names = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the label map {path}: {error}") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"the label map {path} must be a JSON list of class names")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"the label map {path} names the class {twice!r} twice")
    return tuple(names)


def load_segments(
    path: str | Path, heads: Sequence[tuple[str, str | Path]], clips: ClipConfig | None = None
) -> SegmentTable:
    """The segments of a ground-truth table that are long enough for a clip, clamped to their videos.

    Args: heads, (label column, label map) per head.
    Raises: DataError naming file, row and column.
    Source: TSP.
    """
    clips = clips or ClipConfig()
    class_ids = [{name: index for index, name in enumerate(load_label_map(labels))} for _, labels in heads]
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the ground-truth table {path}: {error}") from error
    while rows and not rows[-1]:
        rows.pop()  # blank lines at the end
    if not rows:
        raise DataError(f"the ground-truth table {path} is empty")
    table = _Table(str(path), rows)
    table.require([*NEEDED_COLUMNS, *(column for column, _ in heads)])
    duration_sec, raw_start_sec, raw_end_sec = (table.numbers(name) for name in ("video-duration", "t-start", "t-end"))
    start_sec, end_sec = np.maximum(raw_start_sec, 0.0), np.minimum(raw_end_sec, duration_sec)
    keep = np.flatnonzero(holds_a_clip(start_sec, end_sec, clips.rate_fps, clips.length_frames))
    if len(keep) == 0:
        raise DataError(
            f"none of the {len(start_sec)} segments of {path} is as long as one clip ({clips.duration_sec:.3f} s)"
        )
    filenames = table.texts("filename")
    labels = [table.labels(column, ids) for (column, _), ids in zip(heads, class_ids, strict=True)]
    files = {filename: index for index, filename in enumerate(dict.fromkeys(filenames[index] for index in keep))}
    return SegmentTable(
        path=str(path),
        filenames=tuple(files),
        file_index=np.array([files[filenames[index]] for index in keep], np.int32),
        starts_sec=start_sec[keep],
        ends_sec=end_sec[keep],
        rates_fps=table.rates("fps")[keep],
        labels=np.array(labels, np.int64).T[keep].reshape(len(keep), len(heads)),
        rows=(keep + FIRST_ROW).astype(np.int32),
        counts=SegmentCounts(
            rows=len(start_sec),
            kept=len(keep),
            too_short=len(start_sec) - len(keep),
            clamped=int(((raw_start_sec < 0) | (raw_end_sec > duration_sec)).sum()),
        ),
    )


class _Table:
    """Columns of a CSV file as text; every complaint names file and row."""

    def __init__(self, path: str, rows: list[list[str]]) -> None:
        self._path = path
        header, *body = rows
        self._names = [name.strip() for name in header]
        lengths = list(map(len, body))
        if lengths.count(len(header)) != len(body):
            index = next(index for index, length in enumerate(lengths) if length != len(header))
            raise DataError(f"{path} row {index + FIRST_ROW} has {lengths[index]} fields, its header has {len(header)}")
        texts = zip(*body, strict=True) if body else [() for _ in header]
        self._columns: dict[str, tuple[str, ...]] = dict(zip(self._names, texts, strict=True))

    def require(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._columns:
                raise DataError(f"{self._path} lacks the column {name!r}; its header has {', '.join(self._names)}")

    def texts(self, name: str) -> tuple[str, ...]:
        texts = self._columns[name]
        if "" in texts:
            raise DataError(f"{self._path} row {texts.index('') + FIRST_ROW}: {name} is empty")
        return texts

    def numbers(self, name: str) -> np.ndarray:
        try:
            numbers = np.array(list(map(float, self._columns[name])), np.float64)
        except ValueError:
            numbers = np.array([_number(text) for text in self._columns[name]], np.float64)
        if not np.isfinite(numbers).all():
            index = int(np.flatnonzero(~np.isfinite(numbers))[0])
            text = self._columns[name][index]
            raise DataError(f"{self._path} row {index + FIRST_ROW}: {name} is {text!r}, not a number")
        return numbers

    def rates(self, name: str) -> np.ndarray:
        """Frame rates; nan where the table gives none or no positive number."""
        texts = self._columns.get(name, ("",) * len(self._columns["filename"]))
        rates = np.array([_number(text) for text in texts], np.float64)
        return np.where(np.isfinite(rates) & (rates > 0), rates, math.nan)

    def labels(self, name: str, class_ids: dict[str, int]) -> list[int]:
        ids = [class_ids.get(text) if text else UNLABELLED for text in self._columns[name]]
        if None in ids:
            index = ids.index(None)
            raise DataError(
                f"{self._path} row {index + FIRST_ROW}: {name} {self._columns[name][index]!r} is not in the label "
                f"map, whose {len(class_ids)} classes begin with {next(iter(class_ids))!r}"
            )
        return [UNLABELLED if class_id is None else class_id for class_id in ids]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
