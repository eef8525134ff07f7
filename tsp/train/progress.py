"""A run's progress: ``progress.json`` for ``status``, a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from tsp.config.sizing import EffectiveSizes
from tsp.run.records import Progress
from tsp.run.results import EpochResult
from tsp.run.uploader import Uploader
from tsp.train.data_wait import DataWait

logger = logging.getLogger(__name__)

EVERY_SEC = 10.0
"""Interval of progress reports."""
BAR_EVERY_SEC = 0.2
BAR_WIDTH = 30
VALID_SHARE = 1 / 3
"""Cost of a validation step relative to a training step, until one is measured: forward without backward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The size of the run, for estimating its end."""

    epochs: int
    train_steps: int
    """Training steps of an epoch."""
    valid_steps: int
    """Validation steps of an epoch, of this rank."""


class Reporter:
    """Counts steps; rank 0 also publishes progress. On other ranks ``uploader`` is None and only the log gets lines."""

    def __init__(
        self,
        uploader: Uploader | None,
        sizes: EffectiveSizes,
        plan: Plan,
        *,
        attempt: int,
        device: str,
        stream: TextIO | None = None,
    ) -> None:
        self.uploader, self.sizes, self.plan = uploader, sizes, plan
        self.attempt, self.device = attempt, device
        self._stream = sys.stderr if stream is None else stream
        self._shows_bar = uploader is not None and self._stream.isatty()
        self._phase, self._epoch, self._step, self._steps = "starting", 0, 0, 0
        self._step_sec: dict[str, float] = {}
        self._mark_step, self._mark_sec = 0, time.monotonic()
        self._shown_sec = 0.0
        self._best: tuple[int, float] | None = None
        """Its epoch, and Avg Accuracy in per cent."""
        self._rates: Mapping[str, float] = {}
        self._waiting_for: str | None = None
        self._wait: DataWait | None = None
        self._mark_wait_sec = 0.0
        self._wait_share: float | None = None
        self.bad_clips = 0

    def starts(self, before: Progress | None) -> None:
        """Begin. Args: before, the progress of earlier attempts, shown until the position of this one is known."""
        if before is not None and before.best_epoch is not None and before.best_accuracy_percent is not None:
            self._best = before.best_epoch, before.best_accuracy_percent
        self.enter("starting", epoch=min(before.epoch, self.plan.epochs - 1) if before is not None else 0)

    def best_is(self, result: EpochResult | None) -> None:
        """The best epoch so far, if any."""
        self._best = None if result is None else (result.epoch, result.avg_accuracy_percent)

    def waiting_for(self, what: str | None) -> None:
        """Show the reason of a long wait, or None once it is over. From any thread."""
        self._waiting_for = what
        self._publish()

    def enter(self, phase: str, *, epoch: int, step: int = 0, steps: int = 0, wait: DataWait | None = None) -> None:
        """Begin a phase: ``starting``, ``training``, ``validating``, ``saving`` or ``done``."""
        self._clear_bar()
        self._phase, self._epoch, self._step, self._steps = phase, epoch, step, steps
        self._mark_step, self._mark_sec = step, time.monotonic()
        self._wait, self._mark_wait_sec = wait, 0.0
        if wait is None:
            self._wait_share = None
        self._publish()

    def advance(self, step: int, *, rates: Mapping[str, float] | None = None, loss: float | None = None) -> None:
        """Note the number of steps done; report every few seconds."""
        self._step = step
        self._rates = self._rates if rates is None else rates
        now = time.monotonic()
        if self._shows_bar and now - self._shown_sec >= BAR_EVERY_SEC:
            self._shown_sec = now
            self._draw_bar(loss)
        if now - self._mark_sec >= EVERY_SEC:
            self._measure(now)
            self._publish()
            if not self._shows_bar:
                # All ranks are at the same step: rank 0 logs it, the others only with -v.
                logger.log(logging.INFO if self.uploader else logging.DEBUG, "%s", self._line(loss))

    def leave(self) -> None:
        """End the phase: measure it to its end."""
        self._measure(time.monotonic())
        self._clear_bar()

    def _measure(self, now: float) -> None:
        steps = self._step - self._mark_step
        if steps > 0:
            self._step_sec[self._phase] = (now - self._mark_sec) / steps
        if self._wait is not None and now > self._mark_sec:
            self._wait_share = (self._wait.total_sec - self._mark_wait_sec) / (now - self._mark_sec)
            self._mark_wait_sec = self._wait.total_sec
        self._mark_step, self._mark_sec = self._step, now

    @property
    def clips_per_sec(self) -> float:
        """Of all ranks together, in the present phase; 0 while unknown."""
        step_sec = self._step_sec.get(self._phase, 0.0)
        return self.sizes.global_batch / step_sec if step_sec > 0 else 0.0

    def eta_sec(self) -> float | None:
        """Seconds to the end of the run; None while unknown."""
        train_sec = self._step_sec.get("training")
        if self._phase == "done":
            return 0.0
        if train_sec is None:
            return None
        valid_sec = self._step_sec.get("validating", train_sec * VALID_SHARE)
        later_epochs = self.plan.epochs - 1 - self._epoch
        left_sec = later_epochs * (self.plan.train_steps * train_sec + self.plan.valid_steps * valid_sec)
        if self._phase == "validating":
            return left_sec + (self._steps - self._step) * valid_sec
        return left_sec + (self.plan.train_steps - self._step) * train_sec + self.plan.valid_steps * valid_sec

    def _publish(self) -> None:
        if self.uploader is None:
            return
        self.uploader.submit_progress(
            Progress(
                phase=self._phase,
                epoch=self._epoch,
                epochs=self.plan.epochs,
                step=self._step,
                steps=self._steps,
                clips_per_sec=round(self.clips_per_sec, 2),
                eta_sec=self.eta_sec(),
                attempt=self.attempt,
                world_size=self.sizes.world_size,
                downscale=self.sizes.downscale,
                batch_per_gpu=self.sizes.batch_per_gpu,
                global_batch=self.sizes.global_batch,
                backbone_lr=self._rates.get("backbone", self.sizes.backbone_lr),
                head_lr=self._rates.get("fc", self.sizes.head_lr),
                best_epoch=None if self._best is None else self._best[0],
                best_accuracy_percent=None if self._best is None else self._best[1],
                device=self.device,
                bad_clips=self.bad_clips,
                waiting_for=self._waiting_for,
                data_wait_share=None if self._wait_share is None else round(self._wait_share, 3),
            )
        )

    def _line(self, loss: float | None) -> str:
        eta = self.eta_sec()
        parts = [f"{self._phase} epoch {self._epoch}: step {self._step} of {self._steps}"]
        parts += [f"loss {loss:.4f}"] if loss is not None else []
        parts += [f"{self.clips_per_sec:.1f} clips/s"] if self.clips_per_sec else []
        parts += [f"data wait {self._wait_share:.0%}"] if self._wait_share is not None else []
        parts += [f"{_clock(eta)} left"] if eta is not None else []
        return ", ".join(parts)

    def _draw_bar(self, loss: float | None) -> None:
        filled = BAR_WIDTH * self._step // max(self._steps, 1)
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        self._stream.write(f"\r\x1b[K[{bar}] {self._line(loss)}")
        self._stream.flush()

    def _clear_bar(self) -> None:
        if self._shows_bar:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
