"""What a page shows of a run, as plain JSON: read from its store, whatever is damaged named instead of shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli.backends.log_lines import split_time
from tsp.config.codec import flat
from tsp.errors import DataError, MissingKeyError, TspError
from tsp.run.metrics import position, read_metrics
from tsp.run.results import EpochResult, best

if TYPE_CHECKING:
    from tsp.run.records import EpochRecord
    from tsp.run.stored_run import StoredRun

MAX_POINTS = 1500
"""Of a curve."""
HISTORY = ("loss", "backbone_lr", "head_lr", "clips_per_sec", "data_wait_share", "gradient_norm", "memory_mib",
           "gpu_memory_mib")  # fmt: skip
HEAD_BYTES = 4096
"""Of a log: enough for its first line with a time."""
_NO_DIFFERENCE = ("name", "store.")
"""Settings in which any two runs differ."""


def run_facts(run: StoredRun, state: str | None = None) -> dict[str, Any]:
    """One run.

    Args: state, as its backend reports it; None: what the store says.
    Raises: NoSuchRunError if there is none, StoreError if the store cannot be read.
    """
    problems: list[str] = []

    def tried(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except TspError as error:
            problems.append(str(error))
            return None

    results = run.results()
    about = tried(run.about) or {}
    outcome = tried(run.read_outcome)
    records = tried(run.epochs) or {}
    attempts = tried(lambda: list(_attempts(run))) or []
    history = tried(lambda: read_metrics(run)) or []
    return {
        "name": run.name or run.address(),
        "address": run.address(),
        "state": state or (outcome.state if outcome else "unknown"),
        "reason": outcome.reason if outcome else None,
        "created": about.get("created"),
        "config": flat(about.get("config") or {}),
        "effective": about.get("effective"),
        "versions": about.get("versions") or {},
        "data_digest": about.get("data_digest"),
        "epochs": [_epoch(run, result, records.get(result.epoch)) for result in results.values()],
        "best_epoch": (found.epoch if (found := _best(results.values())) else None),
        "classes": _classes(records, found, problems),
        "attempts": attempts,
        "history": _thinned([line for line in history if line["kind"] == "train"]),
        "starts": [position(line) for line in history if line["kind"] == "start"],
        "problems": problems,
    }


def differences(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Setting -> its value in each run, for those in which the runs differ; None where a run has none recorded."""
    keys = sorted({key for run in runs for key in run["config"]})
    values = {key: [run["config"].get(key) for run in runs] for key in keys if not key.startswith(_NO_DIFFERENCE)}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def _best(results: Any) -> EpochResult | None:
    try:
        return best(results)
    except DataError:
        return None


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


def _attempts(run: StoredRun) -> Iterator[dict[str, Any]]:
    """From the logs that each attempt left: its ranks, when the first line was written, and the last."""
    for attempt in run.attempts():
        ranks = run.ranks(attempt)
        starts: list[datetime] = []
        ends: list[datetime] = []
        for rank in ranks:
            key = run.log_key(attempt, rank)
            try:
                head, written = run.store.read_head(key, HEAD_BYTES), run.store.stat(key).modified
            except MissingKeyError:
                continue
            ends.append(written)
            times = (split_time(line)[0] for line in head.decode(errors="replace").splitlines())
            starts += [time for time in times if time is not None][:1]
        yield {
            "attempt": attempt,
            "ranks": len(ranks),
            "started": min(starts).isoformat() if starts else None,
            "ended": max(ends).isoformat() if ends else None,
        }


def _thinned(lines: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Columns of at most ``MAX_POINTS`` lines, evenly chosen: what a curve can show, at a size a page can have."""
    step = max(1, math.ceil(len(lines) / MAX_POINTS))
    kept = lines[::step]
    columns = {key: [line.get(key) for line in kept] for key in HISTORY}
    return {"position": [round(position(line), 5) for line in kept], **columns}
