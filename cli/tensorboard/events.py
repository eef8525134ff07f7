"""Event files of one run, kept up to date while it trains. Needs the package tensorboard, and no TensorFlow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.text import metadata as text

from cli.tensorboard.event_file import EventFile
from tsp.config.codec import flat
from tsp.errors import NoSuchRunError, StoreError
from tsp.run.metrics import MetricsReader, position

if TYPE_CHECKING:
    from tsp.run.stored_run import StoredRun

logger = logging.getLogger(__name__)

TAGS = {
    "loss": "loss",
    "losses": "loss",
    "accuracy_percent": "accuracy_percent",
    "accuracies_percent": "accuracy_percent",
    "backbone_lr": "learning_rate/backbone",
    "head_lr": "learning_rate/heads",
    "clips_per_sec": "speed/clips_per_sec",
    "data_wait_share": "speed/data_wait_share",
    "gradient_norm": "optimizer/gradient_norm",
    "loss_scale": "optimizer/loss_scale",
    "cpu_percent": "machine/cpu_percent",
    "memory_mib": "machine/memory_mib",
    "gpu_memory_mib": "machine/gpu_memory_mib",
    "gpu_utilization_percent": "machine/gpu_utilization_percent",
}
"""Key of a line -> tag; a line's kind goes before those of losses and accuracies."""


class EventMirror:
    """A run's history as event files in a folder of its own."""

    def __init__(self, run: StoredRun, folder: Path) -> None:
        """Raises: StoreError if the folder cannot be written."""
        self._run = run
        self._file = EventFile(folder)
        self._reader = MetricsReader(run)
        self._has_history = False
        self._written: set[int] = set()
        """Epochs of a run without a history."""
        self._write_configuration()
        self._file.flush()

    def refresh(self) -> int:
        """Write what is new since the last call; returns how many lines that were.

        Raises: StoreError.
        """
        lines = self._reader.added()
        self._has_history |= bool(lines)
        if not self._has_history:
            lines = [line for line in _lines_of_results(self._run) if line["epoch"] not in self._written]
            self._written.update(line["epoch"] for line in lines)
        for line in lines:
            self._write(line)
        self._file.flush()
        return len(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        step, time = _step(line), datetime.fromisoformat(line["time"]).timestamp()
        if line["kind"] == "start":
            # TensorBoard forgets what an earlier attempt wrote beyond this step.
            log = SessionLog(status=SessionLog.START)
            self._file.add(Event(wall_time=time, step=step + 1, session_log=log))
            return
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(line)]
        self._file.add(Event(wall_time=time, step=step, summary=Summary(value=values)))

    def _write_configuration(self) -> None:
        """The configuration as text and, where it is a number or a word, as hyperparameters."""
        try:
            about = self._run.about()
        except NoSuchRunError:
            return
        except StoreError as error:
            logger.warning("without the configuration: %s", error)
            return
        config = flat(about["config"])
        rows = "\n".join(f"| {key} | {value} |" for key, value in config.items())
        table = TensorProto(dtype="DT_STRING", string_val=[f"| setting | value |\n|---|---|\n{rows}".encode()])
        table.tensor_shape.SetInParent()
        shown = Summary.Value(tag="configuration", tensor=table, metadata=text.create_summary_metadata("", ""))
        values = {key: value for key, value in config.items() if isinstance(value, bool | int | float | str)}
        session = hparams.hparams_pb(values, trial_id=self._run.name or self._run.address())
        for summary in (Summary(value=[shown]), session):
            self._file.add(Event(step=0, summary=summary))


def scalars(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Tags and values of a line; ``train/loss``, ``valid/loss/action-label``, ``learning_rate/heads``."""
    for key, tag in TAGS.items():
        value = line.get(key)
        whole = f"{line['kind']}/{tag}" if tag in ("loss", "accuracy_percent") else tag
        if isinstance(value, dict):
            yield from ((f"{whole}/{label}", item) for label, item in value.items() if item is not None)
        elif value is not None:
            yield whole, value


def _step(line: dict[str, Any]) -> int:
    """Steps since the beginning, as the attempt counts them; a validation has its epoch's number."""
    return int(line["epoch"]) if line["kind"] == "valid" else round(position(line) * line["steps"])


def _lines_of_results(run: StoredRun) -> Iterator[dict[str, Any]]:
    """For a run without a history: the results of its epochs."""
    records = run.epochs()
    for result in run.results().values():
        record = records.get(result.epoch)
        yield {
            "kind": "valid",
            "attempt": 1,
            "time": record.created if record else "1970-01-01T00:00:00+00:00",
            "epoch": result.epoch,
            "loss": result.total_loss,
            "accuracy_percent": result.avg_accuracy_percent,
            "losses": {head.label_column: head.loss for head in result.heads},
            "accuracies_percent": {head.label_column: head.accuracy_percent for head in result.heads},
        }
