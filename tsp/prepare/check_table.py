"""Checks a ground-truth table as training reads it: errors where the loader would fail, warnings for what it
tolerates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsp.config.run import ACTION_COLUMN, REGION_COLUMN, ClipConfig
from tsp.data.ground_truth import SegmentRow, no_clips, read_ground_truth
from tsp.data.tables import BACKGROUND_REGION
from tsp.prepare.findings import ERROR, WARNING, DataFinding
from tsp.prepare.match_files import ends_beyond

_SAME_SEC = 1e-6
_OVERLAP_SEC = 0.1
"""Annotators and frame rates round by less."""


@dataclass(slots=True)
class TableCheck:
    """The rows of a table, the problems found in them, and how many are kept."""

    rows: list[SegmentRow] = field(default_factory=list)
    """Those that can be used, however short."""
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
    truth = read_ground_truth(path, label_maps)
    kept = [row for row in truth.rows if row.holds_a_clip(clips)]
    check = TableCheck(
        rows=truth.rows,
        num_rows=truth.num_rows,
        num_kept=len(kept),
        num_too_short=len(truth.rows) - len(kept),
        num_clamped=sum(row.is_clamped for row in truth.rows),
        kept_per_class={
            column: Counter(row.labels[column] for row in kept if row.labels[column]) for column in label_maps
        },
    )
    check.findings = [DataFinding(ERROR, subset, str(path), line, message) for line, message in truth.problems]
    if not kept:
        check.findings.append(DataFinding(ERROR, subset, str(path), None, no_clips(truth, clips)))
    check.findings += [
        DataFinding(WARNING, subset, str(path), None, text)
        for text in (*_other_units(truth.rows), *_overlaps(truth.rows))
    ]
    oddities = [(row.line, text) for row in truth.rows for text in (*_odd_times(row), *_odd_labels(row))]
    oddities += _contradictions(truth.rows)
    check.findings += [DataFinding(WARNING, subset, str(path), line, text) for line, text in sorted(oddities)]
    return check


def _other_units(rows: Sequence[SegmentRow]) -> Iterator[str]:
    """Says that the times can hardly be seconds, where segments of most videos end well after their video."""
    last: dict[str, SegmentRow] = {}
    for row in rows:
        if row.filename not in last or row.end_sec > last[row.filename].end_sec:
            last[row.filename] = row
    beyond = [row for row in last.values() if ends_beyond(row.end_sec, row.duration_sec)]
    if len(beyond) > 1 and 2 * len(beyond) > len(last):  # a single one is rather a wrong row
        one = beyond[0]
        yield (
            f"the segments of {len(beyond)} of {len(last)} videos end well after their video (in row {one.line} at "
            f"{one.end_sec:g} s of {one.duration_sec:g} s): are these frames or milliseconds? The times must be seconds"
        )


def _odd_times(row: SegmentRow) -> Iterator[str]:
    start_sec, end_sec, duration_sec = row.start_sec, row.end_sec, row.duration_sec
    if row.ends_first:
        yield f"the segment ends at {end_sec} s, before it starts at {start_sec} s, and is left out"
    elif end_sec == start_sec:
        yield f"the segment lasts 0 s, at {start_sec} s, and is left out"
    elif start_sec >= duration_sec:
        yield f"the segment begins after the video's end ({start_sec} s of {duration_sec} s) and is left out"
    elif start_sec < 0 or end_sec > duration_sec + _SAME_SEC:
        yield f"the segment {start_sec} to {end_sec} s goes beyond the video (0 to {duration_sec} s) and is cut to it"


def _odd_labels(row: SegmentRow) -> Iterator[str]:
    action, region = row.labels.get(ACTION_COLUMN), row.labels.get(REGION_COLUMN)
    if action is not None and region and bool(action) == (region == BACKGROUND_REGION):
        yield f"{REGION_COLUMN} is {region!r} but {ACTION_COLUMN} is {action!r}"
    if region is not None and not any(row.labels.values()):
        yield "the segment has no label, so training ignores it"


def _contradictions(rows: Sequence[SegmentRow]) -> Iterator[tuple[int, str]]:
    """Rows that give one video different durations, and duplicate rows."""
    first_of: dict[str, SegmentRow] = {}
    line_of: dict[tuple[object, ...], int] = {}
    for row in rows:
        first = first_of.setdefault(row.filename, row)
        if abs(first.duration_sec - row.duration_sec) > _SAME_SEC:
            yield (
                row.line,
                f"video-duration of {row.filename} is {row.duration_sec}, but {first.duration_sec} in row {first.line}",
            )
        key = (row.filename, row.start_sec, row.end_sec, *sorted(row.labels.items()))
        if line_of.setdefault(key, row.line) != row.line:
            yield row.line, f"the same segment as row {line_of[key]}"


def _overlaps(rows: Sequence[SegmentRow]) -> Iterator[str]:
    """Says that background holds an action of another row, as where the background of each class was listed by itself.

    One remark a table: the published ones have dozens of such rows, on which TSP was trained.
    """
    actions_of: dict[str, list[SegmentRow]] = {}
    for row in rows:
        if row.labels.get(ACTION_COLUMN):
            actions_of.setdefault(row.filename, []).append(row)
    background = [
        row for row in rows if row.labels.get(REGION_COLUMN) == BACKGROUND_REGION and not row.labels.get(ACTION_COLUMN)
    ]
    shared = [
        (row.line, other.line, min(row.end_sec, other.end_sec) - max(row.start_sec, other.start_sec))
        for row in background
        for other in actions_of.get(row.filename, ())
    ]
    overlaps = {line: (other, sec) for line, other, sec in reversed(shared) if sec > _OVERLAP_SEC}
    if overlaps:
        line = min(overlaps)
        other, sec = overlaps[line]
        yield (
            f"{len(overlaps)} of {len(background)} segments of {BACKGROUND_REGION!r} overlap an action, the first in "
            f"row {line}: row {other} has an action in {sec:.1f} s of it"
        )
