"""The loader that a rank iterates over: the epoch's batches, read by worker processes."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from tsp.data.batch import ClipBatch
from tsp.data.dataset import ClipDataset, FailedBatch
from tsp.data.features import GvfFile
from tsp.data.order import training_batches, validation_batches
from tsp.data.place import LocalVideos, VideoPlace, local_root
from tsp.data.segments import load_label_map, load_segments, video_name
from tsp.data.shared import SharedSegments, to_shared
from tsp.errors import DataError
from tsp.run.config import HeadConfig, RunConfig, SubsetConfig

log = logging.getLogger(__name__)

Subset = Literal["train", "valid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetData:
    """What is read once for a subset and shared by all workers of a process."""

    segments: SharedSegments
    gvf: Tensor | None
    """float32 [F, 512] by file."""
    num_classes: tuple[int, ...]
    videos: VideoPlace


class ClipLoader:
    """Iterates over one rank's batches of one epoch."""

    def __init__(
        self,
        dataset: ClipDataset,
        data: SubsetData,
        batches: list[np.ndarray],
        *,
        start_step: int,
        workers: int,
        max_bad_share: float,
        pin_memory: bool,
    ) -> None:
        self.dataset = dataset
        self.num_items = len(dataset)
        """Clips of the subset in an epoch, all ranks together, padding not counted."""
        self.num_segments = len(data.segments)
        self.num_steps = len(batches)
        """Batches of this rank in a whole epoch, those before start_step included."""
        self.num_classes = data.num_classes
        self.counts = data.segments.counts
        self.num_bad = 0
        """Clips that could not be decoded so far."""
        self._batches = batches[start_step:]
        self._most_bad = int(max_bad_share * sum(len(batch) for batch in batches))
        self._max_bad_share = max_bad_share
        self._reported: set[str] = set()
        self._workers = min(workers, len(self._batches))
        self._pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[ClipBatch]:
        for batch in self._loader():
            if isinstance(batch, FailedBatch):
                raise batch.error
            self._count_bad(batch)
            yield batch

    def _loader(self) -> DataLoader[ClipBatch | FailedBatch]:
        return DataLoader(
            self.dataset,
            sampler=self._batches,  # each item is one batch
            batch_size=None,
            num_workers=self._workers,
            collate_fn=None,
            pin_memory=self._pin_memory,
            multiprocessing_context=_context() if self._workers else None,
        )

    def _count_bad(self, batch: ClipBatch) -> None:
        self.num_bad += batch.num_bad
        for problem in batch.problems:
            if problem.filename not in self._reported:
                self._reported.add(problem.filename)
                log.warning("bad clip, further ones of this file are only counted: %s", problem.message)
        if self.num_bad > self._most_bad:
            raise DataError(
                f"{self.num_bad} clips could not be decoded, more than {self._max_bad_share:.0%} of this rank's epoch "
                f"(data.max_bad_share); the last: {batch.problems[-1].message}"
            )


def build_loader(
    config: RunConfig,
    subset: Subset,
    *,
    batch: int,
    rank: int = 0,
    world_size: int = 1,
    epoch: int = 0,
    start_step: int = 0,
    seed: int | None = None,
    pin_memory: bool = False,
) -> ClipLoader:
    """The loader of one rank for one epoch.

    Args: batch, clips per rank and step; start_step, batches already done, which are not read again; seed, the
        configuration's where None.
    Raises: DataError or ConfigError if tables, label maps or features cannot be used.
    """
    seed = config.seed if seed is None else seed
    data = load_subset(config, subset)
    dataset = ClipDataset(
        segments=data.segments,
        gvf=data.gvf,
        videos=data.videos,
        clips=config.clips,
        seed=seed,
        epoch=epoch,
        training=subset == "train",
        bad_clips=config.data.bad_clips,
    )
    if subset == "train":
        batches = training_batches(len(dataset), batch, seed=seed, epoch=epoch, rank=rank, world_size=world_size)
    else:
        batches = validation_batches(len(dataset), batch, rank=rank, world_size=world_size)
    return ClipLoader(
        dataset,
        data,
        batches,
        start_step=start_step,
        workers=config.data.workers,
        max_bad_share=config.data.max_bad_share,
        pin_memory=pin_memory,
    )


def load_subset(config: RunConfig, subset: Subset) -> SubsetData:
    """Tables, label maps and features of a subset; read again only if a file changed.

    Raises: DataError or ConfigError naming the file.
    """
    root = local_root(config.data)
    part: SubsetConfig = getattr(config.data, subset)
    files = [root / part.csv, *(root / head.labels for head in config.model.heads)]
    if config.model.gvf != "none" and part.gvf is not None:
        files.append(root / part.gvf)
    stamps = tuple((file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else None for file in files)
    return _load_subset(config, subset, root, stamps)


@lru_cache(maxsize=4)
def _load_subset(config: RunConfig, subset: Subset, root: Path, stamps: tuple[object, ...]) -> SubsetData:
    part: SubsetConfig = getattr(config.data, subset)
    heads: tuple[HeadConfig, ...] = config.model.heads
    segments = load_segments(root / part.csv, [(head.label_column, root / head.labels) for head in heads], config.clips)
    log.info(
        "%s: %d of %d segments in %d videos (%d too short, %d cut to their video)",
        part.csv,
        segments.counts.kept,
        segments.counts.rows,
        len(segments.filenames),
        segments.counts.too_short,
        segments.counts.clamped,
    )
    gvf = None
    if config.model.gvf != "none" and part.gvf is not None:
        gvf = to_shared(GvfFile(root / part.gvf).load([video_name(name) for name in segments.filenames]))
    return SubsetData(
        segments=SharedSegments.of(segments),
        gvf=gvf,
        num_classes=tuple(len(load_label_map(root / head.labels)) for head in heads),
        videos=LocalVideos(root / part.videos),
    )


def _context() -> multiprocessing.context.BaseContext:
    """Workers are forked from a small server process that has the imports done: quick, and safe beside CUDA threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsp.data.dataset"])
    return context
