"""Ground-truth CSVs from external annotations; the background between actions becomes separate segments.

The rules are those of the published tables, which are reproduced row for row (a test compares them): actions first, in
the annotations' order; then background, videos sorted by name; a gap counts if it lasts at least one clip (THUMOS14,
16/15 s) or five clips (ActivityNet, 16/3 s); times are as annotated, not clamped.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tsp.config.job import Answer
from tsp.config.jobs import AnnotateJob
from tsp.config.run import ClipConfig
from tsp.data.label_map import load_label_map, write_labels
from tsp.data.tables import (
    GROUND_TRUTH_COLUMNS,
    REGIONS,
    VideoFacts,
    composed,
    ground_truth_row,
    read_metadata,
    write_table,
)
from tsp.errors import ConfigError, DataError
from tsp.prepare.annotations import Action, Annotations, read_activitynet, read_thumos14, refuse_entries
from tsp.prepare.localisation import localisation_database, merged
from tsp.prepare.match_files import ends_beyond, match_files, other_durations, refuse_other_units, within_folder
from tsp.store.files import (
    folder_and_name,
    local_path,
    open_folder,
    reading,
    reading_folder,
    refuse_overwriting,
    writing,
)
from tsp.wording import first_few

logger = logging.getLogger(__name__)

PUBLISHED_MIN_BACKGROUND_CLIPS = {"thumos14": 1, "activitynet": 5}
"""Shortest gap that became background in the published tables, in clips of 16/15 s."""
_LIKE_BACKGROUND = frozenset({"background", "bg", "no action", "no_action", "noaction", "none", "null", "nothing"})
ROUNDING_SEC = 1e-9
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Annotated:
    """The rows of a ground-truth CSV, and what was left out."""

    rows: list[dict[str, Any]]
    labels: tuple[str, ...]
    unannotated: list[str]
    """Files of the metadata without any action: they get no background either."""
    without_file: list[str]
    """Annotated videos that the metadata does not have."""
    other_duration: list[str]
    """Descriptions of files whose duration differs from their annotation."""


def run(job: AnnotateJob) -> Answer:
    """Do an annotate job; the answer counts rows, per class in ``rows``."""
    refuse_overwriting((job.annotations, job.metadata, job.labels), (job.out, job.json))
    kind = job.format
    if kind == "auto":
        kind = "thumos14" if _is_folder(job.annotations) else "activitynet"
    if kind == "thumos14" and job.subset is not None and job.json is None:
        raise ConfigError(
            "--subset selects videos of a JSON file, but THUMOS14's text files have no subsets: leave it out, and give "
            "the folder of one subset"
        )
    annotations = _read_annotations(job, kind)
    min_background_sec = job.min_background_sec
    if min_background_sec is None:
        min_background_sec = PUBLISHED_MIN_BACKGROUND_CLIPS[kind] * ClipConfig().duration_sec
    with reading(job.metadata, job.store) as path:
        videos = read_metadata(path)
    result = annotate(
        annotations.actions,
        within_folder(videos, job.folder, job.metadata),
        labels=_read_labels(job),
        filename_prefix=job.filename_prefix,
        min_background_sec=min_background_sec,
        durations_sec=annotations.durations_sec,
    )
    with writing(job.out, job.store) as path:
        write_table(path, GROUND_TRUTH_COLUMNS, result.rows)
    if job.json is not None:
        _write_localisation(job, job.json, result)
    label_files = [] if job.labels_out is None else _write_label_maps(job, job.labels_out, result.labels)
    told = _log_left_out(annotations, result, job.metadata)
    facts = {
        "out": job.out,
        "label_maps": label_files,
        "segments": len(result.rows),
        "actions_read": len(annotations.actions),
        "files_without_action": len(result.unannotated),
        "annotated_videos_without_file": len(result.without_file),
        "skipped": told,
    }
    return Answer(rows=_totals(result), facts=facts)


def _write_label_maps(job: AnnotateJob, begin: str, labels: Sequence[str]) -> list[str]:
    """Both label maps, in a folder or behind a prefix; returns their addresses."""
    if not begin.startswith("s3://") and local_path(begin).is_dir():
        begin += "/"
    begin = begin.rstrip("/") + ("/" if begin.endswith("/") else "_")
    addresses = [f"{begin}{name}_label_mapping.json" for name in ("action", "temporal_region")]
    for address, names in zip(addresses, (labels, REGIONS), strict=True):
        with writing(address, job.store) as path:
            write_labels(path, names)
    return addresses


def _totals(result: Annotated) -> list[dict[str, Any]]:
    """Segments and seconds of each class, the background's last."""
    segments_of = {name: [row for row in result.rows if row["action-label"] == name] for name in (*result.labels, "")}
    return [
        {
            "label": name or REGIONS[1],
            "segments": len(rows),
            "seconds": round(sum(row["t-end"] - row["t-start"] for row in rows), 1),
        }
        for name, rows in segments_of.items()
    ]


def _write_localisation(job: AnnotateJob, address: str, result: Annotated) -> None:
    assert job.subset is not None
    rate_fps = ClipConfig().rate_fps
    database = localisation_database(result.rows, result.labels, subset=job.subset, rate_fps=rate_fps)
    folder, name = folder_and_name(address)
    # Another machine may be writing another subset to it.
    open_folder(folder, job.store).change(name, lambda before: merged(before, database, where=address))


def _is_folder(address: str) -> bool:
    return not address.endswith(".json") if address.startswith("s3://") else local_path(address).is_dir()


def _read_labels(job: AnnotateJob) -> Sequence[str] | None:
    if job.labels is None:
        return None
    with reading(job.labels, job.store) as path:
        return load_label_map(path)


def _read_annotations(job: AnnotateJob, kind: str) -> Annotations:
    if kind == "activitynet":
        with reading(job.annotations, job.store) as path:
            return read_activitynet(path, subset=job.subset)
    with reading_folder(job.annotations, job.store, suffix=".txt") as folder:
        return read_thumos14(folder)


def annotate(
    actions: Sequence[Action],
    videos: Sequence[VideoFacts],
    *,
    labels: Sequence[str] | None = None,
    filename_prefix: str | None = None,
    min_background_sec: float = 0.0,
    durations_sec: Mapping[str, float] | None = None,
) -> Annotated:
    """Rows of the ground-truth CSV: the actions in their order, then the background of their videos by name.

    Args: labels, the action classes (default: those that occur, sorted); filename_prefix, what file names have
        before the video's name (default: detected); min_background_sec, the shortest gap that becomes background;
        durations_sec, how long videos are by their annotation.
    Raises: DataError for a label that is not among ``labels``, or if no annotated video has a file.
    """
    if not actions:
        raise DataError("the annotations contain no actions")
    by_name = match_files({action.video for action in actions}, videos, filename_prefix)
    known = _with_file(actions, videos, by_name)
    names = tuple(labels or sorted({action.label for action in actions}))
    if not labels:
        refuse_entries(list(_spelt_differently(actions)))
    refuse_entries(list(_unknown_labels(known, frozenset(names))))
    refuse_other_units(known, by_name)
    rows = [
        ground_truth_row(by_name[action.video], action.video, action.start_sec, action.end_sec, action.label)
        for action in known
    ]
    rows += _background_rows(known, by_name, min_sec=min_background_sec)
    used = {facts.filename for facts in by_name.values()}
    return Annotated(
        rows,
        names,
        unannotated=[facts.filename for facts in videos if facts.filename not in used],
        without_file=sorted({action.video for action in actions} - set(by_name)),
        other_duration=other_durations(durations_sec or {}, by_name),
    )


def _with_file(
    actions: Sequence[Action], videos: Sequence[VideoFacts], by_name: Mapping[str, VideoFacts]
) -> list[Action]:
    """The actions whose video has a file.

    Raises: DataError if there is none.
    """
    known = [action for action in actions if action.video in by_name]
    if not known:
        raise DataError(
            f"none of the {len({action.video for action in actions})} annotated videos (such as "
            f"{actions[0].video!r}) is among the {len(videos)} files of the metadata (such as "
            f"{videos[0].filename if videos else 'none'!r}): give --filename-prefix, or another --subset"
        )
    return known


def _unknown_labels(actions: Iterable[Action], labels: frozenset[str]) -> Iterator[str]:
    """Describes actions whose label is none of the label map's."""
    for action in actions:
        if action.label not in labels:
            yield f"{action.where}: the label {action.label!r} is not in the label map"


def _background_rows(
    actions: Iterable[Action], by_name: Mapping[str, VideoFacts], *, min_sec: float
) -> Iterator[dict[str, Any]]:
    """The background of the actions' videos, by name."""
    spans_of: dict[str, list[tuple[float, float]]] = {}
    for action in actions:
        spans_of.setdefault(action.video, []).append((action.start_sec, action.end_sec))
    for video in sorted(spans_of):
        facts = by_name[video]
        for start_sec, end_sec in background(spans_of[video], facts.duration_sec, min_sec=min_sec):
            yield ground_truth_row(facts, video, start_sec, end_sec, None)


def _spelt_differently(actions: Iterable[Action]) -> Iterator[str]:
    """Describes labels that differ only in case, spaces or Unicode form."""
    seen: dict[str, Action] = {}
    for action in actions:
        other = seen.setdefault(" ".join(composed(action.label).casefold().split()), action)
        if other.label != action.label:
            yield (
                f"{action.where}: the label {action.label!r} and {other.label!r} ({other.where}) differ only in "
                f"spelling"
            )


def background(
    spans_sec: Iterable[tuple[float, float]], duration_sec: float, *, min_sec: float = 0.0
) -> list[tuple[float, float]]:
    """The intervals of a video that no action covers, half-open, in order, without those shorter than ``min_sec``."""
    gaps, free_from = [], 0.0
    for start_sec, end_sec in sorted(spans_sec, key=lambda span: span[0]):
        gaps.append((free_from, min(start_sec, duration_sec)))
        free_from = max(free_from, end_sec)
    gaps.append((free_from, duration_sec))
    return [(start, end) for start, end in gaps if end > start and end - start >= min_sec - ROUNDING_SEC]


def _log_left_out(annotations: Annotations, result: Annotated, metadata: str) -> dict[str, int]:
    """Log what produced no segment, or an odd one; returns the count per reason."""
    left_out: dict[str, list[str]] = {}
    for reason, where in annotations.skipped:
        left_out.setdefault(f"{reason}: skipped", []).append(where)
    by_name = {row["video-name"]: row["video-duration"] for row in result.rows}
    subsets = sorted({annotations.subsets[name] for name in by_name if name in annotations.subsets})
    if len(subsets) > 1:
        logger.warning("the table mixes videos of the subsets %s: --subset selects one of them", ", ".join(subsets))
    seen = Counter((action.video, action.start_sec, action.end_sec, action.label) for action in annotations.actions)
    left_out |= {
        f"files of {metadata} without actions: they yield no segments": result.unannotated,
        f"annotated videos that are not in {metadata}: skipped": result.without_file,
        "videos whose annotated duration differs from the file's": result.other_duration,
        "labels that sound like background: they are treated as actions": [
            label for label in result.labels if label.strip().lower() in _LIKE_BACKGROUND
        ],
        "actions annotated more than once: all are kept": [
            f"{video} {start_sec:g} to {end_sec:g} s {label!r}"
            for (video, start_sec, end_sec, label), times in seen.items()
            if times > 1
        ],
        "actions that begin before 0 s: cut there": [
            action.where for action in annotations.actions if action.start_sec < 0
        ],
        "actions of 0 s: no clip fits into them": [
            action.where for action in annotations.actions if action.start_sec == action.end_sec
        ],
        "actions that end well after their video: the part beyond its end has no frames": [
            action.where
            for action in annotations.actions
            if action.video in by_name
            and action.start_sec < by_name[action.video]
            and ends_beyond(action.end_sec, by_name[action.video])
        ],
        "actions that begin after the end of their video: they have no clips": [
            action.where
            for action in annotations.actions
            if action.video in by_name and action.start_sec >= by_name[action.video]
        ],
    }
    for what, names in left_out.items():
        if names:
            logger.warning("%d %s (%s)", len(names), what, first_few(names, _SHOWN))
    return {what.partition(":")[0]: len(names) for what, names in left_out.items() if names}
