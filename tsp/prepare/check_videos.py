"""The videos that a table names: there, readable to the end, and as long as the table says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tsp.data.dataset_files import Videos
from tsp.data.video.inspect import VideoReport, inspect_video
from tsp.errors import DataError
from tsp.prepare.check_table import Row
from tsp.prepare.findings import ERROR, WARNING, DataFinding, Severity
from tsp.prepare.parallel import for_each

_FRAMES_OFF = 1.5
"""A duration that is further from the file's than this many frames is taken for a mistake."""
_RATE_OFF = 0.01

Seen = VideoReport | str
"""What is in a file, or why it cannot be read."""


def check_videos(
    subset: str, videos: Videos, table: Path, rows: Sequence[Row], *, decode_all: bool, workers: int | None
) -> list[DataFinding]:
    """Look into every video of the table, side by side; findings name the video or the row."""
    rows_of: dict[str, list[Row]] = {}
    for row in rows:
        rows_of.setdefault(row.filename, []).append(row)
    findings: list[DataFinding] = []
    inspect = partial(_inspect, videos, decode_all)
    for name, seen in for_each(
        inspect, list(rows_of), workers=workers or None, crashed=_crashed, noun=f"{subset} videos"
    ):
        named = _named_by(table, rows_of[name])
        if isinstance(seen, str):
            findings.append(DataFinding(ERROR, subset, name, rows_of[name][0].line, f"{seen}; {named}"))
            continue
        findings += [
            DataFinding(ERROR, subset, name, rows_of[name][0].line, f"{fault}; {named}") for fault in seen.faults
        ]
        findings += [DataFinding(severity, subset, name, None, text) for severity, text in _oddities(seen)]
        findings += _against_table(subset, table, rows_of[name], seen)
    return findings


def _inspect(videos: Videos, decode_all: bool, name: str) -> Seen:
    try:
        with videos.reading(name) as path:
            return inspect_video(path, decode_all=decode_all)
    except DataError as error:
        # The video cannot be read, or its training copy is not there.
        return str(error)


def _crashed(name: str) -> Seen:
    return f"the decoder crashed on {name}"


def _named_by(table: Path, rows: Sequence[Row]) -> str:
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{table} names it in row {rows[0].line}{more}"


def _oddities(seen: VideoReport) -> Iterator[tuple[Severity, str]]:
    """What training copes with, but not as one would expect."""
    cure = "run 'tspctl data standardize'"
    if not seen.constant_rate:
        yield WARNING, f"its frame rate varies (mean {seen.fps:.3f} fps), so clips are not evenly spaced: {cure}"
    if seen.rotation_degrees:
        yield WARNING, f"players turn it by {seen.rotation_degrees} degrees, training does not: {cure}"


def _against_table(subset: str, table: Path, rows: Sequence[Row], seen: VideoReport) -> Iterator[DataFinding]:
    """Where a video and the table's rows of it disagree."""
    first, tolerance_sec = rows[0], _FRAMES_OFF / seen.fps
    if abs(first.duration_sec - seen.duration_sec) > tolerance_sec:
        severity = ERROR if first.duration_sec > seen.duration_sec else WARNING
        text = (
            f"video-duration of {first.filename} is {first.duration_sec:.3f}, the file lasts {seen.duration_sec:.3f} s"
        )
        yield DataFinding(severity, subset, str(table), first.line, text)
    if first.fps is not None and abs(first.fps / seen.fps - 1) > _RATE_OFF:
        text = f"fps of {first.filename} is {first.fps:g}, the file has {seen.fps:g}, which is used"
        yield DataFinding(WARNING, subset, str(table), first.line, text)
    if first.num_frames is not None and abs(first.num_frames - seen.num_frames) > 1:
        text = f"video-frames of {first.filename} is {first.num_frames:g}, the file has {seen.num_frames}"
        yield DataFinding(WARNING, subset, str(table), first.line, text)
    for row in rows:
        start_sec, end_sec = row.clamped_sec()
        if end_sec > start_sec and end_sec > seen.duration_sec + tolerance_sec:
            text = f"the segment ends at {end_sec:.3f} s, {row.filename} already at {seen.duration_sec:.3f} s"
            yield DataFinding(ERROR, subset, str(table), row.line, text)
