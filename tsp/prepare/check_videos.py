"""Checks that the videos of a table exist, are readable to the end, and are as long as the table says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tsp.config.run import RunConfig
from tsp.data.dataset_files import Videos
from tsp.data.ground_truth import SegmentRow
from tsp.data.video.inspect import VideoReport, inspect_video
from tsp.errors import DataError, TspError
from tsp.prepare.findings import ERROR, WARNING, DataFinding
from tsp.prepare.parallel import for_each

_FRAMES_OFF = 1.5
"""A duration that differs from the file's by more frames than this is reported as a mistake."""
_RATE_OFF = 0.01

Seen = VideoReport | str
"""What is in a file, or why it cannot be read."""


def check_videos(
    subset: str,
    videos: Videos,
    table: Path,
    rows: Sequence[SegmentRow],
    config: RunConfig,
    *,
    decode_all: bool,
    workers: int | None,
) -> list[DataFinding]:
    """Inspect every video of the table in parallel; findings name the video or the row.

    A run never reads a video without a segment that holds a clip, so such a video has no errors.
    """
    rows_of: dict[str, list[SegmentRow]] = {}
    for row in rows:
        rows_of.setdefault(row.filename, []).append(row)
    findings: list[DataFinding] = []
    inspect = partial(_inspect, videos, decode_all)
    for name, seen in for_each(
        inspect, list(rows_of), workers=workers or None, crashed=_crashed, noun=f"{subset} videos"
    ):
        named, line = _named_by(table, rows_of[name]), rows_of[name][0].line
        kept = [row for row in rows_of[name] if row.holds_a_clip(config.clips)]
        severity = ERROR if kept else WARNING
        if isinstance(seen, str):
            findings.append(DataFinding(severity, subset, name, line, f"{seen}; {named}"))
            continue
        findings += [DataFinding(severity, subset, name, line, f"{fault}; {named}") for fault in seen.faults]
        findings += [DataFinding(WARNING, subset, name, None, remark) for remark in seen.remarks]
        findings += _against_table(subset, table, rows_of[name][0], seen)
        findings += _past_the_end(subset, table, kept, seen, config)
    return findings


def _inspect(videos: Videos, decode_all: bool, name: str) -> Seen:
    try:
        with videos.reading(name) as path:
            return inspect_video(path, decode_all=decode_all)
    except DataError as error:
        # The video cannot be read, or its training copy is not there.
        return str(error)
    except TspError:
        raise  # a store that does not answer is no fault of the video
    except Exception as error:
        return f"{name} cannot be read: {type(error).__name__}: {error}"


def _crashed(name: str) -> Seen:
    return f"the decoder crashed on {name}"


def _named_by(table: Path, rows: Sequence[SegmentRow]) -> str:
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{table} names it in row {rows[0].line}{more}"


def _against_table(subset: str, table: Path, row: SegmentRow, seen: VideoReport) -> Iterator[DataFinding]:
    """Where a video and the table's first row of it disagree. Training uses the file's duration and the rows' times."""
    odd = []
    if abs(row.duration_sec - seen.duration_sec) > _FRAMES_OFF / seen.fps:
        odd.append(
            f"video-duration of {row.filename} is {row.duration_sec:.3f}, but the file lasts {seen.duration_sec:.3f} s"
        )
    if abs(row.fps / seen.fps - 1) > _RATE_OFF:
        odd.append(f"fps of {row.filename} is {row.fps:g}, but the file has {seen.fps:g}; the file's is used")
    if abs(row.num_frames - seen.num_frames) > 1:
        odd.append(f"video-frames of {row.filename} is {row.num_frames:g}, but the file has {seen.num_frames}")
    yield from (DataFinding(WARNING, subset, str(table), row.line, text) for text in odd)


def _past_the_end(
    subset: str, table: Path, rows: Sequence[SegmentRow], seen: VideoReport, config: RunConfig
) -> Iterator[DataFinding]:
    """Segments that end after their video: clips that start too late are drawn again where possible."""
    tolerance_sec = _FRAMES_OFF / seen.fps
    for row in rows:
        start_sec, end_sec = row.clamped_sec()
        if end_sec <= seen.duration_sec + tolerance_sec:
            continue
        text = f"the segment ends at {end_sec:.3f} s, but {row.filename} at {seen.duration_sec:.3f} s"
        lost = start_sec + config.clips.duration_sec > seen.duration_sec + tolerance_sec
        if lost:
            text += ": no clip of it can be read"
        severity = ERROR if lost or config.data.bad_clips == "fail" else WARNING
        yield DataFinding(severity, subset, str(table), row.line, text)
