"""Ground-truth tables as compact arrays of segments, their files and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsp.config.run import ClipConfig
from tsp.data.ground_truth import read_ground_truth
from tsp.data.label_map import load_label_map
from tsp.data.tables import video_name

UNLABELLED = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment."""

    video: str
    """The video's name: its file name without extension, the key of its global video feature."""
    filename: str
    start_sec: float
    end_sec: float
    labels: tuple[int, ...]
    """Class id per head, -1 where unlabelled."""
    file_fps: float | None
    row: int
    """Line of the table's file, from 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentCounts:
    """Numbers of the table's rows that were kept, dropped or clamped."""

    rows: int
    kept: int
    too_short: int
    """Rows dropped because they are shorter than one clip after clamping."""
    ends_first: tuple[int, ...]
    """Lines of those among them that end before they start."""
    clamped: int
    """Rows that extended beyond their video and were clamped to it."""


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
    """int32 [S], line of the table's file, from 1."""
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


def load_segments(
    path: str | Path, heads: Sequence[tuple[str, str | Path]], clips: ClipConfig | None = None
) -> SegmentTable:
    """The segments of a ground-truth table that are long enough for a clip, clamped to their videos.

    Args: heads, (label column, label map) per head.
    Raises: DataError naming file, row and column.
    Source: TSP.
    """
    clips = clips or ClipConfig()
    label_maps = {column: load_label_map(labels) for column, labels in heads}
    truth = read_ground_truth(path, label_maps)
    kept = truth.kept(clips)
    class_ids = {
        column: {"": UNLABELLED} | {name: index for index, name in enumerate(names)}
        for column, names in label_maps.items()
    }
    files = {filename: index for index, filename in enumerate(dict.fromkeys(row.filename for row in kept))}
    times_sec = np.array([row.clamped_sec() for row in kept], np.float64)
    rates_fps = np.array([row.fps for row in kept], np.float64)
    return SegmentTable(
        path=str(path),
        filenames=tuple(files),
        file_index=np.array([files[row.filename] for row in kept], np.int32),
        starts_sec=times_sec[:, 0],
        ends_sec=times_sec[:, 1],
        rates_fps=np.where(rates_fps > 0, rates_fps, math.nan),
        labels=np.array([[ids[row.labels[column]] for column, ids in class_ids.items()] for row in kept], np.int64),
        rows=np.array([row.line for row in kept], np.int32),
        counts=SegmentCounts(
            rows=truth.num_rows,
            kept=len(kept),
            too_short=truth.num_rows - len(kept),
            ends_first=tuple(row.line for row in truth.rows if row.ends_first),
            clamped=sum(row.is_clamped for row in truth.rows),
        ),
    )
