"""Reading other people's annotations of actions: THUMOS14's texts and JSON of ActivityNet's v1-3 shape."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsp.errors import DataError

_THUMOS14_FILE = re.compile(r"(?P<label>.+?)(_(val|test|validation))?")
THUMOS14_IGNORED = ("Ambiguous",)
"""Stretches that no one could label; the published tables treat them as if they were not annotated."""


@dataclass(frozen=True, slots=True)
class Action:
    """One annotated action of a video, half-open, in seconds as annotated."""

    video: str
    start_sec: float
    end_sec: float
    label: str
    where: str
    """File and line or entry, for messages."""


def read_thumos14(folder: Path) -> list[Action]:
    """Actions of the class files ``<Class>_val.txt`` or ``<Class>_test.txt``: lines ``video start end``.

    Returns: sorted by video, within it by class, within that in the file's order, as the published tables are.
    Raises: DataError naming file and line.
    """
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if not files:
        raise DataError(f"{folder} holds no annotation texts (<Class>_val.txt): give the folder of THUMOS14's own")
    actions = []
    for path in files:
        match = _THUMOS14_FILE.fullmatch(path.stem)
        label = match["label"] if match else path.stem
        if label in THUMOS14_IGNORED:
            continue
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if text.strip():
                actions.append(_thumos14_action(text, label, f"{path}, line {line}"))
    return sorted(actions, key=lambda action: (action.video, action.label))


def _thumos14_action(text: str, label: str, where: str) -> Action:
    fields = text.split()
    if len(fields) != 3:
        raise DataError(f"{where}: expected 'video start end', got {text.strip()!r}")
    return _action(fields[0], fields[1], fields[2], label, where)


def read_activitynet(path: Path, *, subset: str | None = None) -> list[Action]:
    """Actions of a JSON ``{"database": {video: {"subset": ..., "annotations": [{"segment": [s, e], "label": ...}]}}}``.

    Args: subset, only videos of this one (``training``, ``validation``); None takes all.
    Returns: in the file's order.
    Raises: DataError naming file and entry, or the subsets there are.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the annotations {path}: {error}") from error
    database = raw.get("database") if isinstance(raw, dict) else None
    if not isinstance(database, dict):
        raise DataError(f"{path} has no mapping 'database': it is not JSON of ActivityNet's v1-3 shape")
    subsets = sorted({str(entry.get("subset")) for entry in database.values() if isinstance(entry, dict)})
    if subset is not None and subset not in subsets:
        raise DataError(f"{path} has no subset {subset!r}; it has {', '.join(subsets)}")
    actions: list[Action] = []
    for video, entry in database.items():
        if not isinstance(entry, dict):
            raise DataError(f"{path}, {video}: expected a mapping, got {entry!r}")
        if subset is None or entry.get("subset") == subset:
            actions += _activitynet_actions(path, video, entry.get("annotations", []))
    return actions


def _activitynet_actions(path: Path, video: str, annotations: Any) -> list[Action]:
    actions = []
    for number, annotation in enumerate(annotations):
        where = f"{path}, {video}, annotation {number}"
        try:
            start, end = annotation["segment"]
            label = annotation["label"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: expected a segment [start, end] and a label, got {annotation!r}") from error
        actions.append(_action(video, start, end, label, where))
    return actions


def _action(video: str, start: Any, end: Any, label: str, where: str) -> Action:
    try:
        start_sec, end_sec = float(start), float(end)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {start!r} to {end!r} are not seconds") from error
    if not (math.isfinite(start_sec) and math.isfinite(end_sec)):
        raise DataError(f"{where}: {start!r} to {end!r} are not seconds")
    return Action(video, start_sec, end_sec, label, where)
