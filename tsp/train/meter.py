"""Measurements of rank 0 during training, as lines of the run's history."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from tsp.run.metrics import MetricsLog
from tsp.run.results import EpochResult
from tsp.train.data_wait import DataWait
from tsp.train.step import StepReport
from tsp.train.usage import Usage


class Meter:
    """Collects the reports of steps, which the host has read already, and writes a line every few seconds or steps."""

    def __init__(
        self,
        log: MetricsLog,
        usage: Usage,
        labels: Sequence[str],
        *,
        global_batch: int,
        every_sec: float,
        every_steps: int,
    ) -> None:
        """Args: labels, of the heads; global_batch, clips of a step over all ranks."""
        self._log, self._usage, self._labels = log, usage, tuple(labels)
        self._global_batch, self._every_sec, self._every_steps = global_batch, every_sec, every_steps
        self._epoch, self._steps = 0, 0
        self._wait: DataWait | None = None
        self._reports: list[StepReport] = []
        self._rates: dict[str, float] = {}
        self._mark_sec, self._mark_wait_sec = time.monotonic(), 0.0

    def starts(
        self, *, epoch: int, step: int, steps: int, world_size: int, changed: Mapping[str, str] | None = None
    ) -> None:
        """The attempt resumes here. Args: changed, versions and files that differ from the first attempt's."""
        self._log.write(
            "start",
            epoch=epoch,
            step=step,
            steps=steps,
            world_size=world_size,
            global_batch=self._global_batch,
            **({"changed": dict(changed)} if changed else {}),
        )

    def enters(self, *, epoch: int, steps: int, wait: DataWait) -> None:
        """Training of an epoch begins or continues."""
        self._epoch, self._steps, self._wait = epoch, steps, wait
        self._reports, self._mark_sec, self._mark_wait_sec = [], time.monotonic(), wait.total_sec

    def step(self, report: StepReport, rates: Mapping[str, float]) -> None:
        """A step is done; its number counts from 0."""
        self._reports.append(report)
        self._rates = dict(rates)
        if len(self._reports) >= self._every_steps or time.monotonic() - self._mark_sec >= self._every_sec:
            self._write(rates)

    def leaves(self) -> None:
        """The epoch's training is over, a state is saved, or the attempt ends: write the remaining steps."""
        if self._reports:
            self._write(self._rates)

    def close(self) -> None:
        """The attempt ends, for whatever reason: write and send the remaining steps."""
        self.leaves()
        self._log.close()

    def validated(self, result: EpochResult) -> None:
        """An epoch has its results."""
        heads = {head.label_column: [head.accuracy_percent, head.loss] for head in result.heads}
        self._log.write(
            "valid",
            epoch=result.epoch,
            loss=result.total_loss,
            accuracy_percent=result.avg_accuracy_percent,
            losses={label: loss for label, (_, loss) in heads.items()},
            accuracies_percent={label: accuracy for label, (accuracy, _) in heads.items()},
        )

    def _write(self, rates: Mapping[str, float]) -> None:
        now, last, count = time.monotonic(), self._reports[-1], len(self._reports)
        took_sec = max(now - self._mark_sec, 1e-9)
        waited_sec = self._wait.total_sec - self._mark_wait_sec if self._wait else 0.0
        self._log.write(
            "train",
            epoch=self._epoch,
            step=last.step + 1,
            steps=self._steps,
            loss=_mean([report.loss for report in self._reports]),
            losses={
                label: _mean([report.losses[index] for report in self._reports])
                for index, label in enumerate(self._labels)
            },
            backbone_lr=rates.get("backbone"),
            head_lr=rates.get("fc"),
            clips_per_sec=round(count * self._global_batch / took_sec, 2),
            data_wait_share=round(min(1.0, waited_sec / took_sec), 4),
            gradient_norm=last.gradient_norm,
            loss_scale=last.loss_scale,
            **self._usage(),
        )
        self._reports, self._mark_sec = [], now
        self._mark_wait_sec = self._wait.total_sec if self._wait else 0.0


def _mean(values: Sequence[float]) -> float:
    """Mean over this rank's clips, with six digits, which is enough for single precision."""
    mean = sum(values) / len(values)
    return float(f"{mean:.6g}") if math.isfinite(mean) else mean
