"""The validation of one epoch with the other ranks, for the loop and for unvalidated epochs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

from tsp.model.heads import TspModel
from tsp.run.results import format_line
from tsp.train.batches import on_device
from tsp.train.context import TrainingContext
from tsp.train.data_wait import DataWait
from tsp.train.epoch_loaders import EpochLoaders
from tsp.train.progress import Reporter
from tsp.train.validate import Figures, Validator

logger = logging.getLogger(__name__)

LAST_BATCHES = 4
"""Batches before a validation's end at which the next epoch's data workers are started."""


class EpochValidation:
    """Validates the model of an epoch; the results are the same on every rank."""

    def __init__(self, context: TrainingContext, loaders: EpochLoaders, reporter: Reporter) -> None:
        self._sizes, self._numerics, self._group = context.sizes, context.numerics, context.group
        self._config, self._stop = context.config, context.stop
        self._loaders, self._reporter = loaders, reporter
        self._validator = Validator(
            loss_weights=[head.loss_weight for head in context.config.model.heads],
            numerics=context.numerics,
            group=context.group,
        )

    def __call__(self, model: TspModel, epoch: int, *, then: Callable[[], None] = lambda: None) -> Figures:
        """Args: then, called when only a few batches are left.

        Raises: TerminatedError; DataError, PeerLostError.
        """
        loader = self._loaders.build("valid", epoch=epoch)
        self._reporter.enter("validating", epoch=epoch, steps=loader.num_steps)
        num_batches = -(-len(loader.dataset) // self._sizes.batch_per_gpu)

        def after_batch(done: int) -> None:
            self._stop.check(f"validating epoch {epoch}")
            self._reporter.advance(done)
            if done >= loader.num_steps - LAST_BATCHES:
                then()

        wait = DataWait.of_loader(self._group.watchdog, self._config.data)
        with closing(on_device(loader, self._numerics.device, stop=self._stop, wait=wait)) as batches:
            tally = self._validator(model, batches, num_batches=num_batches, after_batch=after_batch)
        self._reporter.leave()
        columns = [head.label_column for head in self._config.model.heads]
        figures = Figures(
            result=tally.result(epoch, columns),
            classes=tally.classes(columns, loader.data.labels),
            bad_clips=sum(self._group.gather(loader.num_bad)),
        )
        if self._group.is_main:
            logger.info("%s", format_line(figures.result))
        return figures
