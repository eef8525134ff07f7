"""Validates epochs that have a checkpoint but no results, because an attempt ended between the two."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tsp.errors import ConfigError, StoreError, StoreUnreachableError
from tsp.model.heads import TspModel
from tsp.model.weights import load_model_state
from tsp.run.records import EpochRecord
from tsp.run.results import format_line
from tsp.run.stored_run import StoredRun
from tsp.store.base import sha256_of
from tsp.train import checkpoint
from tsp.train.distributed import Group
from tsp.train.precision import Numerics
from tsp.train.resume import unvalidated_epochs
from tsp.train.validate import Figures

logger = logging.getLogger(__name__)


def validate_unvalidated_epochs(
    run: StoredRun,
    model: TspModel,
    group: Group,
    numerics: Numerics,
    folder: Path | None,
    fits: Callable[[Mapping[str, Any], str], None],
    validate: Callable[[TspModel, int], Figures],
) -> None:
    """Validate and publish the epochs that earlier attempts saved but did not validate.

    Args: model, left with the last one's weights (training continues from a later checkpoint, which is loaded then);
        folder, rank 0's for downloads; fits, refuses content with another meaning; validate, on all ranks.
    A damaged checkpoint is skipped with a warning: its epoch is trained again.
    """
    epochs = group.from_main(unvalidated_epochs(run) if folder is not None else None)
    if not epochs:
        return
    for epoch in epochs:
        path = None if folder is None else folder / f"epoch_{epoch}.pth"
        content = group.from_main(_fetch(run, epoch, path) if path is not None else None)
        if content is None:
            continue
        logger.info("epoch %d has a checkpoint but no results: validating it first", epoch)
        where = run.address(f"epoch_{epoch}.pth")
        fits(content, where)
        load_model_state(model, content["model"], where=where)
        numerics.prepare(model)
        started = time.monotonic()
        found = validate(model, epoch)
        if path is not None:
            run.publish_record(
                EpochRecord(
                    epoch=epoch,
                    size_bytes=path.stat().st_size,
                    sha256=sha256_of(path),
                    results_line=format_line(found.result),
                    result=found.result,
                    clips_per_sec=0.0,
                    duration_sec=round(time.monotonic() - started, 2),
                    bad_clips=found.bad_clips,
                    classes=found.classes,
                )
            )
            path.unlink()


def _fetch(run: StoredRun, epoch: int, path: Path) -> dict[str, Any] | None:
    try:
        run.download_epoch(epoch, path)
        return checkpoint.read(path)
    except StoreUnreachableError:
        raise
    except (StoreError, ConfigError) as error:
        logger.warning("epoch %d is trained again: %s", epoch, error)
        return None
