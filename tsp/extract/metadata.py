"""The videos of a metadata table, and the clips that slide over each."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tsp.data.clips import extraction_starts_sec
from tsp.data.segments import video_name
from tsp.errors import DataError
from tsp.run.jobs import ExtractJob

COLUMNS = ("filename", "video-duration", "fps", "video-frames")


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


@dataclass(frozen=True, slots=True)
class SlidePlan:
    """How clips slide over videos."""

    stride_frames: int
    """Frames (at ``rate_fps``) between the starts of two clips."""
    length_frames: int
    rate_fps: float
    pads_short: bool
    """Whether a video shorter than one clip becomes one clip that ends with its last frame repeated."""

    @classmethod
    def of(cls, job: ExtractJob) -> SlidePlan:
        """The plan of a job."""
        return cls(job.stride_frames, job.length_frames, job.rate_fps, job.short_videos == "pad")

    def starts_sec(self, video: VideoRow) -> list[float]:
        """Starts of the video's clips, rising; none for a short one that is left out."""
        starts = extraction_starts_sec(
            video.num_frames,
            video.fps,
            stride_frames=self.stride_frames,
            length_frames=self.length_frames,
            rate_fps=self.rate_fps,
        )
        return starts or ([0.0] if self.pads_short else [])


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
