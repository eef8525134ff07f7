"""Reads published action annotations: THUMOS14's text files and JSON in ActivityNet's v1-3 format.

Entries that are not read here would later count as background, so nothing is dropped silently: an entry becomes an
action, is skipped with a reason, or is an error that names file and entry. All errors are reported together.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tsp.data.tables import number_in
from tsp.data.text_files import read_json, read_text
from tsp.errors import DataError

_THUMOS14_FILE = re.compile(r"(?P<label>.+?)(_(val|test|validation|train|training))?", re.IGNORECASE)
_IN_NO_TABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line breaks and other control characters, and halves of characters, which no encoding has."""
THUMOS14_IGNORED = ("ambiguous",)
"""Classes, in lower case, of stretches that no one could label; the published tables treat them as not annotated."""
_ERRORS_SHOWN = 5
_SHAPE = '{"database": {"VIDEO": {"subset": "...", "annotations": [{"segment": [START, END], "label": "..."}]}}}'


@dataclass(frozen=True, slots=True)
class Action:
    """One annotated action of a video, half-open, in seconds as annotated."""

    video: str
    start_sec: float
    end_sec: float
    label: str
    where: str
    """File and line or entry, for messages."""


class Skipped(NamedTuple):
    """Something left out on purpose."""

    reason: str
    where: str


@dataclass(slots=True)
class Annotations:
    """The content of annotation files."""

    actions: list[Action] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    durations_sec: dict[str, float] = field(default_factory=dict)
    """The duration of a video in its annotation, if given."""
    subsets: dict[str, str] = field(default_factory=dict)
    """The subset of a video, if its annotation names one."""
    errors: list[str] = field(default_factory=list)

    def add(self, video: str, start: Any, end: Any, label: Any, where: str) -> None:
        """Add an entry, or record why it cannot be used."""
        start_sec, end_sec = _seconds(start), _seconds(end)
        if math.isnan(start_sec) or math.isnan(end_sec):
            self.errors.append(f"{where}: {start!r} to {end!r} are not seconds")
        elif end_sec < start_sec:
            self.errors.append(f"{where}: the action ends at {end_sec:g} s, before it starts at {start_sec:g} s")
        elif not isinstance(label, str) or not label.strip():
            self.errors.append(f"{where}: the label is {label!r}, not the name of a class")
        elif odd := _IN_NO_TABLE.search(video + label):
            self.errors.append(f"{where}: a name with {odd[0]!r} cannot be in a table ({video!r}, label {label!r})")
        else:
            self.actions.append(Action(video, start_sec, end_sec, label, where))

    def checked(self) -> Annotations:
        """Raises: DataError naming the entries that cannot be used."""
        refuse_entries(self.errors)
        return self


def refuse_entries(errors: list[str]) -> None:
    """Raises: DataError with the first few of the errors and how many more there are; nothing if there are none."""
    if errors:
        more = f" (and {len(errors) - _ERRORS_SHOWN} more)" if len(errors) > _ERRORS_SHOWN else ""
        raise DataError("; ".join(errors[:_ERRORS_SHOWN]) + more + ": correct or remove them")


def read_thumos14(folder: Path) -> Annotations:
    """Actions of the class files ``<Class>_val.txt`` or ``<Class>_test.txt``: lines ``video start end``.

    Returns: sorted by video, within it by class, within that in the file's order, as the published tables are.
    Raises: DataError naming files and lines.
    """
    found = Annotations()
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    num_texts = 0
    for path in paths:
        reason = _why_no_class_file(path)
        if reason:
            found.skipped.append(Skipped(reason, path.name))
            continue
        num_texts += 1
        try:
            text = read_text(path, "annotation text")
        except DataError as error:
            found.errors.append(str(error))
            continue
        match = _THUMOS14_FILE.fullmatch(path.stem)
        label = match["label"] if match else path.stem
        for line, entry in enumerate(text.splitlines(), start=1):
            where, fields = f"{path}, line {line}", entry.split()
            if not fields:
                continue
            if label.lower() in THUMOS14_IGNORED:
                found.skipped.append(Skipped("ambiguous intervals", where))
            elif len(fields) != 3:
                found.errors.append(f"{where}: expected 'video start end', got {entry.strip()!r}")
            else:
                found.add(fields[0], fields[1], fields[2], label, where)
    if not num_texts:
        raise DataError(
            f"{folder} contains no annotation files (<Class>_val.txt): give the folder of THUMOS14's annotations"
        )
    found.actions.sort(key=lambda action: (action.video, action.label))
    return found.checked()


def _why_no_class_file(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden files"
    if path.is_dir():
        return "folders within the folder"
    return "" if path.suffix.lower() == ".txt" else "files other than .txt"


def read_activitynet(path: Path, *, subset: str | None = None) -> Annotations:
    """Actions of a JSON ``{"database": {video: {"subset": ..., "annotations": [{"segment": [s, e], "label": ...}]}}}``.

    Args: subset, only videos of this one (``training``, ``validation``); None takes all.
    Returns: in the file's order.
    Raises: DataError naming file and entries, or the subsets there are.
    """
    raw = read_json(path, "annotation file", once=True)
    database = raw.get("database") if isinstance(raw, dict) else None
    if not isinstance(database, dict):
        raise DataError(f"{path} has no mapping 'database': it is not JSON in ActivityNet's v1-3 format, {_SHAPE}")
    if not database:
        raise DataError(f"{path} contains no videos")
    subsets = sorted({str(entry.get("subset")) for entry in database.values() if isinstance(entry, dict)})
    if subset is not None and subset not in subsets:
        raise DataError(f"{path} has no subset {subset!r}; it has {', '.join(subsets)}")
    found = Annotations()
    for video, entry in database.items():
        where = f"{path}, {video}"
        if not isinstance(entry, dict):
            found.errors.append(f"{where}: expected a mapping, got {str(entry)[:100]!r}")
        elif subset is not None and entry.get("subset") != subset:
            found.skipped.append(Skipped("videos of another subset", video))
        else:
            _add_entry(found, video, entry, where)
    return found.checked()


def _add_entry(found: Annotations, video: str, entry: dict[str, Any], where: str) -> None:
    if isinstance(entry.get("subset"), str):
        found.subsets[video] = entry["subset"]
    duration_sec = _seconds(entry.get("duration"))
    if duration_sec > 0:
        found.durations_sec[video] = duration_sec
    elif entry.get("duration") is not None:
        found.skipped.append(Skipped("durations that are not in seconds", f"{video}, {str(entry['duration'])[:20]!r}"))
    annotations = entry.get("annotations")
    if not annotations and annotations in (None, []):
        found.skipped.append(Skipped("videos without annotations", video))
        return
    if not isinstance(annotations, list):
        found.errors.append(f"{where}: annotations must be a list, got {str(annotations)[:100]!r}")
        return
    for number, annotation in enumerate(annotations):
        segment = annotation.get("segment") if isinstance(annotation, dict) else None
        if not isinstance(segment, list) or len(segment) != 2:
            shown = str(annotation)[:100]
            found.errors.append(
                f"{where}, annotation {number}: expected a segment [start, end] and a label, got {shown!r}"
            )
            continue
        start, end = segment
        found.add(video, start, end, annotation.get("label"), f"{where}, annotation {number}")


def _seconds(value: Any) -> float:
    """A finite number; nan for anything else."""
    if isinstance(value, str):
        return number_in(value)
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
