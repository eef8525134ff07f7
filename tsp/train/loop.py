"""The training of a run, from its newest state to its last epoch, as one rank sees it.

    for each epoch: train -> save state -> validate -> publish checkpoint and figures

A restart at any point continues from the published files and ends with the same weights.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial

from tsp.config.cpus import rank_cpus
from tsp.config.throughput import BUSY_SHARE, cure
from tsp.data.loader import ClipLoader
from tsp.errors import StoreError, TerminatedError
from tsp.run.metrics import MetricsLog, merge_metrics
from tsp.run.origins import PRETRAINED, RESUME
from tsp.run.records import EpochRecord, Progress
from tsp.run.results import EpochResult, best_or_none, format_line
from tsp.run.uploader import Uploader
from tsp.train.batches import on_device
from tsp.train.context import TrainingContext
from tsp.train.data_wait import DataWait
from tsp.train.epoch_loaders import EpochLoaders
from tsp.train.epoch_validation import EpochValidation
from tsp.train.fit import refuse_moved_classes, warn_of_other_clips
from tsp.train.meter import Meter
from tsp.train.non_finite import refuse
from tsp.train.origins import record_origins
from tsp.train.progress import Plan, Reporter
from tsp.train.resume import Position, find_start, state_extras
from tsp.train.saver import DRAIN_SEC, Saver
from tsp.train.schedule import group_rates
from tsp.train.step import StepReport
from tsp.train.training_state import TrainingState, build_model, build_training_state, load_initial_weights
from tsp.train.unvalidated import validate_unvalidated_epochs
from tsp.train.usage import Usage

logger = logging.getLogger(__name__)

LEAST_JUDGED_SEC = 20.0
"""Less training than this says nothing about the data path: workers are still starting."""


class Training:
    """One rank's part of a run."""

    def __init__(self, context: TrainingContext) -> None:
        self._context = context
        self.config, self.run, self.sizes = context.config, context.run, context.sizes
        self.numerics, self.group, self.stop = context.numerics, context.group, context.stop
        self.attempt = context.attempt
        self.results: dict[int, EpochResult] = {}
        self._warned_of_data_wait = False
        self._changed: dict[str, str] = {}
        """What has changed since the run's first attempt, on rank 0."""

    def __call__(self) -> None:
        """Train until the last epoch is published.

        Raises: TerminatedError with the state saved; NonFiniteLossError; DataError, StoreError, PeerLostError.
        """
        self.loaders = EpochLoaders(self.config, self.sizes, self.group, self.numerics)
        train, valid = self.loaders.build("train", epoch=0), self.loaders.build("valid", epoch=0)
        plan = Plan(epochs=self.config.schedule.epochs, train_steps=train.num_steps, valid_steps=valid.num_steps)
        with ExitStack() as stack:
            stack.callback(self.loaders.close)
            self.saver = stack.enter_context(Saver(self._uploader(stack))) if self.group.is_main else None
            self.reporter = Reporter(
                self.saver.uploader if self.saver else None,
                self.sizes,
                plan,
                attempt=self.attempt,
                device=str(self.numerics.device),
            )
            self.validate = EpochValidation(self._context, self.loaders, self.reporter)
            self.meter = self._meter(stack)
            self._listen_to_watchdog()
            self.reporter.starts(self._earlier_progress())
            state = self._begin(train)
            position = state.position
            if self.meter is not None:
                self.meter.starts(
                    epoch=position.epoch,
                    step=position.step,
                    steps=plan.train_steps,
                    world_size=self.group.world_size,
                    changed=self._changed,
                )
            while position.epoch < self.config.schedule.epochs:
                if not position.is_trained:
                    position = self._train_epoch(state, position)
                position = self._validate_epoch(state, position)
            self.reporter.enter("done", epoch=self.config.schedule.epochs - 1)

    def _earlier_progress(self) -> Progress | None:
        """Progress of the attempt before, on rank 0; it is only displayed, so errors are ignored."""
        if self.group.is_main:
            with suppress(StoreError):
                return self.run.read_progress()
        return None

    def _meter(self, stack: ExitStack) -> Meter | None:
        """Of rank 0, whose history is the run's."""
        if not self.group.is_main:
            return None
        try:
            merge_metrics(self.run, self.attempt)
        except StoreError as error:
            logger.warning("the metrics of earlier attempts are left unchanged: %s", error)
        meter = Meter(
            MetricsLog(self.run, self.attempt),
            Usage(self.numerics.device),
            [head.label_column for head in self.config.model.heads],
            global_batch=self.sizes.global_batch,
            every_sec=self.config.metrics_every_sec,
            every_steps=self.config.metrics_every_steps,
        )
        stack.callback(meter.close)
        return meter

    def _listen_to_watchdog(self) -> None:
        """Show long waits in progress.json, and let the watchdog finish uploads if this thread is stuck."""
        self.group.watchdog.on_notice = self.reporter.waiting_for
        saver, meter = self.saver, self.meter
        if saver is not None:
            self.group.watchdog.last_words.append(lambda error: saver.drain(DRAIN_SEC))
        if meter is not None:
            self.group.watchdog.last_words.append(lambda error: meter.close())

    def _uploader(self, stack: ExitStack) -> Uploader:
        uploader = Uploader(self.run, keep_epochs=self.config.keep_epochs)
        stack.callback(uploader.close)
        return uploader

    def _begin(self, train: ClipLoader) -> TrainingState:
        """Validate unvalidated epochs; then model, optimizer and schedule at the run's position."""
        model = build_model(self.config.model, train.data.num_classes, seed=self.config.seed)
        fits = partial(refuse_moved_classes, self.config, train.data.labels)
        validate_unvalidated_epochs(
            self.run, model, self.group, self.numerics, self.saver.folder if self.saver else None, fits, self.validate
        )
        start = None
        weights: dict[str, str | None] = {}
        if self.saver is not None:
            start = find_start(self.run, self.config, self.saver.folder)
            self.results = {epoch: record.result for epoch, record in self.run.epochs().items()}
            if start.content is None:
                weights = {PRETRAINED: load_initial_weights(model, self.config)}
            else:
                weights = {RESUME: start.sha256}
        self._changed = record_origins(
            self.run,
            self.config,
            self.group,
            self.numerics.device,
            {name: digest for name, digest in weights.items() if digest is not None},
        )
        start = self.group.from_main(start)
        if start.content is not None:
            fits(start.content, start.where)
            warn_of_other_clips(self.config, start.content, where=start.where)
        self.stop.check("starting")
        state = build_training_state(
            self.config,
            model,
            start,
            sizes=self.sizes,
            num_steps=train.num_steps,
            labels=train.data.labels,
            numerics=self.numerics,
            group=self.group,
        )
        self._note_best()
        logger.info(
            "begins at epoch %d, step %d of %d%s, in %s on %s",
            state.position.epoch,
            state.position.step,
            train.num_steps,
            f" from {start.where}" if start.where else "",
            self.numerics.precision,
            self.numerics.device,
        )
        return state

    def _train_epoch(self, state: TrainingState, position: Position) -> Position:
        loader = self.loaders.take(position)
        wait = DataWait.of_loader(self.group.watchdog, self.config.data)
        self.reporter.enter("training", epoch=position.epoch, step=position.step, steps=loader.num_steps, wait=wait)
        if self.meter is not None:
            self.meter.enters(epoch=position.epoch, steps=loader.num_steps, wait=wait)
        started = saved = time.monotonic()
        before, step = position, position.step
        with closing(on_device(loader, self.numerics.device, stop=self.stop, wait=wait)) as batches:
            try:
                for batch in batches:
                    reports = state.stepper(step, batch, stop=self.stop.requested)
                    step += 1
                    position = replace(
                        before,
                        step=step,
                        num_steps=loader.num_steps,
                        bad_clips=before.bad_clips + loader.num_bad,
                        train_sec=before.train_sec + time.monotonic() - started,
                    )
                    self._judge(state, position, reports)
                    if time.monotonic() - saved >= self.config.state_every_sec and step < loader.num_steps:
                        saved = self._save_in_passing(state, position, saved)
            except TerminatedError:
                # A data worker was killed along with this process: between two steps the state is consistent.
                self._save_state(state, position)
                raise
        self._judge(state, position, state.stepper.flush())
        self.reporter.leave()
        if self.meter is not None:
            self.meter.leaves()
        if self.group.is_main:
            took_sec = time.monotonic() - started
            num_clips = (step - before.step) * self.sizes.global_batch
            logger.info(
                "trained epoch %d: %.1f clips/s, waited for clips %.0f %% of %.0f s",
                position.epoch, num_clips / took_sec, 100 * wait.total_sec / took_sec, took_sec,
            )  # fmt: skip
            self._warn_of_data_wait(wait.total_sec / took_sec, took_sec)
        return position

    def _warn_of_data_wait(self, share: float, took_sec: float) -> None:
        """Warn once if the data path slows down training, with advice."""
        if share > BUSY_SHARE and took_sec > LEAST_JUDGED_SEC and not self._warned_of_data_wait:
            self._warned_of_data_wait = True
            cpus = rank_cpus()
            logger.warning("data wait is %.0f %% of training: %s", 100 * share, cure(self.config.data, cpus=cpus))

    def _judge(self, state: TrainingState, position: Position, reports: list[StepReport]) -> None:
        """Act on the reports of steps; every rank does so at the same step.

        Raises: NonFiniteLossError; TerminatedError.
        """
        if any(report.stop_anywhere for report in reports):
            reports = reports + state.stepper.flush()
        for report in reports:
            if report.bad_anywhere:
                refuse(self.group, position.epoch, report)
            rates = group_rates(state.optimizer)
            self.reporter.advance(position.step, rates=rates, loss=report.loss)
            if self.meter is not None:
                self.meter.step(report, rates)
        self.reporter.bad_clips = position.bad_clips
        if any(report.stop_anywhere for report in reports):
            who = self.stop.signal_name or "a signal to another rank"
            raise TerminatedError(f"{who} in epoch {position.epoch} after step {position.step}: state saved")

    def _save_in_passing(self, state: TrainingState, position: Position, saved: float) -> float:
        """Save a state unless the previous one is still being written, or a pending step failed."""
        if self.saver is None or self.saver.is_busy or state.stepper.is_going_wrong():
            return saved
        self._save_state(state, position)
        return time.monotonic()

    def _save_state(self, state: TrainingState, position: Position) -> None:
        if self.meter is not None:
            # A line ends where an attempt may resume, so that the next one's lines begin there.
            self.meter.leaves()
        if self.saver is not None:
            content = state.snapshot(position.epoch) | state_extras(position, state.stepper.scaler.state_dict())
            self.saver.save_state(content, epoch=position.epoch, step=position.step, attempt=self.attempt)

    def _validate_epoch(self, state: TrainingState, position: Position) -> Position:
        """Save the trained state, validate it, publish both; returns the start of the next epoch."""
        epoch, started = position.epoch, time.monotonic()
        content = state.snapshot(epoch) if self.saver is not None else {}
        if self.saver is not None and state.position != position:
            extras = state_extras(position, state.stepper.scaler.state_dict())
            self.saver.save_state(content | extras, epoch=epoch, step=position.step, attempt=self.attempt)
        figures = self.validate(state.model, epoch, then=lambda: self.loaders.prepare(epoch + 1))
        bad_train = sum(self.group.gather(position.bad_clips))
        self.results[epoch] = figures.result
        self._note_best()
        if self.meter is not None:
            self.meter.validated(figures.result)
        if self.saver is not None:
            self.reporter.enter("saving", epoch=epoch)
            num_clips = position.num_steps * self.sizes.global_batch
            valid_sec = time.monotonic() - started

            def make_record(size_bytes: int, sha256: str) -> EpochRecord:
                return EpochRecord(
                    epoch=epoch,
                    size_bytes=size_bytes,
                    sha256=sha256,
                    results_line=format_line(figures.result),
                    result=figures.result,
                    clips_per_sec=round(num_clips / position.train_sec, 2) if position.train_sec else 0.0,
                    duration_sec=round(position.train_sec + valid_sec, 2),
                    bad_clips=bad_train + figures.bad_clips,
                    classes=figures.classes,
                )

            self.saver.save_epoch(content, make_record)
        return Position(epoch=epoch + 1)

    def _note_best(self) -> None:
        self.reporter.best_is(best_or_none(self.results.values()))
