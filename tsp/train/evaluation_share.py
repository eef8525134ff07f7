"""A shard of an evaluation: some of the validation's batches, their results as a part, and the merging of parts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import torch

from tsp.config.run import RunConfig
from tsp.data.loader import SubsetData, build_loader
from tsp.model.device import card_of
from tsp.model.heads import TspModel
from tsp.run.evaluation import EvaluationPart
from tsp.train.batches import on_device
from tsp.train.distributed import RankEnv
from tsp.train.precision import choose_numerics
from tsp.train.rendezvous import join
from tsp.train.stop_signal import Stop
from tsp.train.validate import Tally, Validator
from tsp.wording import counted

logger = logging.getLogger(__name__)

EVERY_SEC = 10.0
"""Between two lines that say how far it is."""


def num_clips(config: RunConfig, data: SubsetData) -> int:
    """Of the whole validation."""
    return len(data.segments) * config.clips.per_segment


def num_batches(config: RunConfig, data: SubsetData) -> int:
    """Of the whole validation."""
    return -(-num_clips(config, data) // config.batch_per_gpu)


def evaluate_share(
    config: RunConfig, data: SubsetData, model: TspModel, device: torch.device, shard: int, shards: int
) -> EvaluationPart:
    """Every ``shards``-th batch from number ``shard`` on.

    Raises: ConfigError for a number format that the card lacks; DataError. A GPU's errors pass.
    """
    card, stop = card_of(device), Stop()
    numerics = choose_numerics(device, config.model, [] if card is None else [card])
    numerics.prepare(model)
    loader = build_loader(
        config, "valid", batch=config.batch_per_gpu, rank=shard, world_size=shards,
        pin_memory=device.type == "cuda", data=data,
    )  # fmt: skip
    numbers = range(shard, num_batches(config, data), shards)
    clips = sum(len(step.items) for step in loader.steps)
    logger.info(
        "%s in %s, in %s on %s",
        counted(clips, "clip"),
        counted(len(numbers), "batch"),
        numerics.precision,
        device,
    )
    group = join(RankEnv(), device, stop)
    loss_weights = [head.loss_weight for head in config.model.heads]
    validator = Validator(loss_weights=loss_weights, numerics=numerics, group=group)
    report = _reporting(len(numbers), config.batch_per_gpu)
    began = time.monotonic()
    try:
        with closing(on_device(loader, device, stop=stop)) as batches:
            tally = validator.share(model, batches, numbers, num_batches=num_batches(config, data), after_batch=report)
        rows = tally.losses.cpu()
    finally:
        group.leave()
    return EvaluationPart(
        losses={str(number): tuple(rows[number].tolist()) for number in numbers},
        counts=tuple(tuple(counts.tolist()) for counts in tally.counts),
        bad_clips=loader.num_bad,
        clips_per_sec=clips / max(time.monotonic() - began, 1e-9),
    )


def joined(parts: Sequence[EvaluationPart]) -> EvaluationPart:
    """The evaluation from the parts of all shards."""
    by_head = zip(*(part.counts for part in parts), strict=True)
    return EvaluationPart(
        losses={number: row for part in parts for number, row in part.losses.items()},
        counts=tuple(tuple(map(sum, zip(*counts, strict=True))) for counts in by_head),
        bad_clips=sum(part.bad_clips for part in parts),
        clips_per_sec=sum(part.clips_per_sec for part in parts),
    )


def tally_of(part: EvaluationPart, batches: int, num_classes: Sequence[int]) -> Tally:
    """The result of a validation of all batches."""
    tally = Tally.empty(batches, num_classes)
    for number, row in part.losses.items():
        tally.losses[int(number)] = torch.tensor(row, dtype=torch.float64)
    for into, counts in zip(tally.counts, part.counts, strict=True):
        into += torch.tensor(counts, dtype=torch.int64)
    return tally


def _reporting(num_batches: int, batch: int) -> Callable[[int], None]:
    """A function that logs progress every ten seconds."""
    began = shown = time.monotonic()

    def after_batch(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < EVERY_SEC:
            return
        shown = now
        rate = done / (now - began)
        left_sec = (num_batches - done) / rate
        logger.info("%d of %d batches, %.1f clips/s, %.0f s left", done, num_batches, rate * batch, left_sec)

    return after_batch
