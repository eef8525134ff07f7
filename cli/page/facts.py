"""The content of a page for a run, as plain JSON read from its store; damaged files are named instead of shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli.backends.log_lines import split_time
from cli.runs.images import images_of, keep_images
from tsp.config.codec import flat
from tsp.errors import DataError, MissingKeyError, NoSuchRunError, StoreUnreachableError, TspError
from tsp.run.metrics import position, read_metrics
from tsp.run.origins import recorded
from tsp.run.pod_images import described
from tsp.run.results import EpochResult, best_or_none

if TYPE_CHECKING:
    from cli.runs.found_run import FoundRun
    from tsp.run.records import EpochRecord
    from tsp.run.stored_run import StoredRun

MAX_POINTS = 1500
"""Of a curve."""
HISTORY = ("loss", "backbone_lr", "head_lr", "clips_per_sec", "data_wait_share", "gradient_norm", "memory_mib",
           "gpu_memory_mib")  # fmt: skip
HEAD_BYTES = 4096
"""Of a log: enough for its first line with a time."""
TAIL_BYTES, MAX_REASON_CHARS = 16384, 300
_NOTHING: Mapping[str, Any] = {
    "state": "unknown", "reason": None, "created": None, "config": {}, "effective": None, "versions": {}, "machine": {},
    "digests": {}, "images": [], "epochs": [], "best_epoch": None, "classes": [], "attempts": [], "problems": [],
    "history": {"position": [], **{key: [] for key in HISTORY}}, "unreadable": False,
}  # fmt: skip
"""Of a run of which nothing could be read."""


def run_facts(found: FoundRun, *, name: str) -> dict[str, Any]:
    """One run, as far as it can be read.

    Args: name, among the runs of the page.
    """
    run, status = found.run, found.status
    problems: list[str] = []

    def tried(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except TspError as error:
            problems.append(str(error))
            return None

    try:
        results, failures = run.readable_results()
        problems += map(str, failures)
    except TspError as error:
        problems.append(str(error))
        results = {}
        if isinstance(error, StoreUnreachableError):
            # Otherwise everything else would wait for it once more.
            return {**_NOTHING, "name": name, "address": run.address(), "problems": problems, "unreadable": True}
    about = tried(lambda: _about(run)) or {}
    keep_images(run, status)
    outcome = tried(run.read_outcome)
    records = tried(run.epochs) or {}
    history = tried(lambda: read_metrics(run)) or []
    starts = {line["attempt"]: line for line in history if line["kind"] == "start"}
    attempts = tried(lambda: list(_attempts(run, starts))) or []
    return {
        **_NOTHING,
        "name": name or run.address(),
        "address": run.address(),
        "state": status.state if status else outcome.state if outcome else "unknown",
        "reason": outcome.reason if outcome else None,
        "created": about.get("created"),
        "config": flat(about.get("config") or {}),
        "effective": about.get("effective"),
        **{key: recorded(about, key) for key in ("versions", "machine", "digests")},
        "images": [described([image]) for image in images_of(run, status)],
        "epochs": [_epoch(run, result, records.get(result.epoch)) for result in results.values()],
        "best_epoch": (chosen.epoch if (chosen := best_or_none(results.values())) else None),
        "classes": _classes(records, chosen, problems),
        "attempts": attempts,
        "history": _thinned([line for line in history if line["kind"] == "train"]),
        "problems": problems,
    }


def _about(run: StoredRun) -> Mapping[str, Any]:
    """``run.json``; empty if there is none."""
    try:
        return run.about()
    except NoSuchRunError:
        return {}


def _epoch(run: StoredRun, result: EpochResult, record: EpochRecord | None) -> dict[str, Any]:
    heads = [
        {"label": head.label_column, "accuracy": head.accuracy_percent, "loss": head.loss} for head in result.heads
    ]
    facts: dict[str, Any] = {
        "epoch": result.epoch,
        "accuracy": result.avg_accuracy_percent,
        "loss": result.total_loss,
        "heads": heads,
        "checkpoint": run.address(f"epoch_{result.epoch}.pth"),
    }
    if record is not None:
        facts |= {
            "clips_per_sec": record.clips_per_sec,
            "duration_sec": record.duration_sec,
            "bad_clips": record.bad_clips,
            "sha256": record.sha256,
            "size_bytes": record.size_bytes,
            "ended": record.created,
        }
    return facts


def _classes(
    records: Mapping[int, EpochRecord], chosen: EpochResult | None, problems: list[str]
) -> list[dict[str, Any]]:
    """The best epoch's clips by class, per head; nothing for runs that recorded none."""
    if chosen is None or chosen.epoch not in records:
        return []
    found = []
    for counts in records[chosen.epoch].classes:
        try:
            rows = counts.rows()
        except DataError as error:
            problems.append(str(error))
            continue
        shown = [
            {"label": row.label, "clips": row.clips, "correct": row.correct, "predicted": row.predicted} for row in rows
        ]
        found.append({"label": counts.label_column, "rows": shown})
    return found


def _attempts(run: StoredRun, starts: Mapping[int, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """From the logs of each attempt: its ranks, the times of the first and last line, its last error.

    Args: starts, lines of the history that say where an attempt resumed.
    """
    for attempt in run.attempts():
        ranks, start = run.ranks(attempt), starts.get(attempt, {})
        begun: list[datetime] = []
        ended: list[datetime] = []
        errors: list[str] = []
        for rank in ranks:
            key = run.log_key(attempt, rank)
            try:
                entry = run.store.stat(key)
                head = run.store.read(key, size_bytes=HEAD_BYTES)
                tail = run.store.read(key, offset_bytes=max(0, entry.size_bytes - TAIL_BYTES))
            except MissingKeyError:
                continue
            ended.append(entry.modified)
            times = (split_time(line)[0] for line in head.decode(errors="replace").splitlines())
            begun += [time for time in times if time is not None][:1]
            errors += _errors_in(tail)[-1:]
        yield {
            "attempt": attempt,
            "ranks": len(ranks),
            "started": min(begun).isoformat() if begun else start.get("time"),
            "ended": max(ended).isoformat() if ended else None,
            "resumed": position(start) if start else None,
            "changed": start.get("changed"),
            "reason": errors[0] if errors else None,
        }


def _errors_in(tail: bytes) -> list[str]:
    """Messages of the log's error lines, each cut to a length that can be shown."""
    lines = tail.decode(errors="replace").splitlines()
    return [line.split(" ERROR ", 1)[1].strip()[:MAX_REASON_CHARS] for line in lines if " ERROR " in line]


def _thinned(lines: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Columns of at most ``MAX_POINTS`` lines, evenly chosen: what a curve can show, at a size a page can have."""
    step = max(1, math.ceil(len(lines) / MAX_POINTS))
    kept = lines[::step]
    columns = {key: [line.get(key) for line in kept] for key in HISTORY}
    return {"position": [round(position(line), 5) for line in kept], **columns}
