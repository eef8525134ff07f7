"""The loader that a rank iterates over: the epoch's batches, read by worker processes."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsp.config.cpus import rank_cpus
from tsp.config.run import DataConfig, RunConfig, SubsetConfig
from tsp.config.throughput import workers_of
from tsp.data.batch import ClipBatch
from tsp.data.cache import MIB
from tsp.data.dataset import ClipDataset
from tsp.data.dataset_files import DatasetFiles, Videos
from tsp.data.epoch_order import Step, as_steps, mixed_steps, steps_from, training_batches, validation_batches
from tsp.data.features import GvfFile
from tsp.data.label_map import load_label_map
from tsp.data.one_pass import GroupDataset, mix, one_ahead
from tsp.data.prefetch import Prefetcher
from tsp.data.read_ahead import ReadAhead
from tsp.data.segments import load_segments
from tsp.data.shared_memory import SharedSegments, check_shared_memory, fitting_workers, has_room_for_two, to_shared
from tsp.data.tables import refuse_shared_names, video_name
from tsp.data.workers import WorkerFailure, WorkerNotes, WorkerReader
from tsp.errors import DataError
from tsp.wording import counted

T = TypeVar("T")
log = logging.getLogger(__name__)

Subset = Literal["train", "valid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetData:
    """Read once for a subset and shared by all workers of a process."""

    segments: SharedSegments
    gvf: Tensor | None
    """float32 [F, 512] by file."""
    labels: tuple[tuple[str, ...], ...]
    """Class names of each head."""
    videos: Videos
    crashed: Tensor
    """bool [F]: files on which a decoder crashed, which are not read again."""

    @property
    def num_classes(self) -> tuple[int, ...]:
        """Of each head."""
        return tuple(map(len, self.labels))


@dataclass(kw_only=True, eq=False)
class ClipLoader:
    """Iterates over one rank's batches of one epoch."""

    dataset: ClipDataset
    data: SubsetData
    steps: list[Step]
    """Of this rank in the whole epoch."""
    config: DataConfig
    num_workers: int
    """Data workers; fewer where there are fewer batches."""
    start_step: int = 0
    """Steps already done, which are not read."""
    pin_memory: bool = False
    num_bad: int = field(default=0, init=False)
    """Clips that could not be decoded so far."""
    _reported: set[str] = field(default_factory=set, init=False)
    """Files whose further bad clips are only counted."""
    _ahead: ReadAhead[ClipBatch] | None = field(default=None, init=False)

    @property
    def num_steps(self) -> int:
        """This rank's batches in a whole epoch, including those before start_step."""
        return len(self.steps)

    @cached_property
    def _steps_left(self) -> list[Step]:
        return steps_from(self.steps, self.start_step)

    @cached_property
    def _most_bad(self) -> int:
        return int(self.config.max_bad_share * sum(len(step.items) for step in self.steps))

    @property
    def _num_workers(self) -> int:
        return min(self.num_workers, len(self))

    def __len__(self) -> int:
        return len(self._steps_left)

    def start(self, device: torch.device) -> None:
        """Start workers and the first batches now, on a thread, so that they are ready when the loader is iterated.

        Does nothing without data workers, or where shared memory cannot hold another loader's batches.
        Args: device, the one that pinned memory is for.
        """
        batch_bytes = self.dataset.clip_bytes * max((len(step.items) for step in self._steps_left), default=0)
        if self._num_workers and has_room_for_two(batch_bytes, self._num_workers):
            self._ahead = ReadAhead(self._batches(), device)

    def close(self) -> None:
        """End what ``start`` began, if the loader was not iterated since."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def __iter__(self) -> Iterator[ClipBatch]:
        ahead, self._ahead = self._ahead, None
        return self._batches() if ahead is None else iter(ahead)

    def _batches(self) -> Generator[ClipBatch]:
        in_one_pass = any(step.groups for step in self._steps_left)
        with self._prefetcher() as prefetcher:
            for step, batch in enumerate(self._mixed_batches() if in_one_pass else self._plain_batches()):
                if prefetcher is not None:
                    prefetcher.advance(step)
                self._count_bad(batch)
                yield batch

    def _plain_batches(self) -> Iterator[ClipBatch]:
        batches = [np.array(step.items) for step in self._steps_left]
        return self._read(self.dataset, batches, pin_memory=self.pin_memory)

    def _mixed_batches(self) -> Iterator[ClipBatch]:
        groups = [group for step in self._steps_left for group in step.groups]
        read = self._read(GroupDataset(self.dataset), groups, pin_memory=False)
        return one_ahead(mix(self.dataset, self._steps_left, read, pin_memory=self.pin_memory))

    def _read(self, dataset: Dataset[T | WorkerFailure], keys: Sequence[Sized], *, pin_memory: bool) -> Iterator[T]:
        check_shared_memory(self.dataset.clip_bytes * max(map(len, keys), default=0), self._num_workers)
        reader = WorkerReader(
            notes=self.dataset.notes,
            num_workers=self._num_workers,
            deadline_sec=self.config.batch_deadline_sec,
            describe=self.dataset.describe,
            set_aside=self._set_aside,
        )
        return reader.read(dataset, keys, pin_memory=pin_memory)

    def _set_aside(self, item: int) -> None:
        """Stop reading the file on which a decoder crashed."""
        self.dataset.notes.crashed[self.dataset.file_of(item)] = True

    def _prefetcher(self) -> AbstractContextManager[Prefetcher | None]:
        videos, segments = self.data.videos, self.data.segments
        if videos.cache is None:
            return nullcontext()
        items = [[item for group in step.groups or (step.items,) for item in group] for step in self._steps_left]
        keys = [[videos.key(segments[item % len(segments)].filename) for item in step] for step in items]
        return Prefetcher(videos.cache, keys, ahead_bytes=self.config.cache_mib * MIB // 2)

    def _count_bad(self, batch: ClipBatch) -> None:
        self.num_bad += batch.num_bad
        for problem in batch.problems:
            if problem.filename not in self._reported:
                self._reported.add(problem.filename)
                log.warning("bad clip (further bad clips of this file are only counted): %s", problem.message)
        if self.num_bad > self._most_bad:
            raise DataError(
                f"{counted(self.num_bad, 'clip')} could not be decoded, more than {self.config.max_bad_share:.0%} of "
                f"this rank's epoch (data.max_bad_share); the last one: {batch.problems[-1].message}"
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
    pin_memory: bool = False,
    data: SubsetData | None = None,
) -> ClipLoader:
    """The loader of one rank for one epoch.

    Args: batch, clips per rank and step; start_step, batches already done, which are not read again; data, the
        subset's tables if they are loaded already.
    Raises: DataError or ConfigError if tables, label maps or features cannot be used.
    """
    training = subset == "train"
    data = data or load_subset(config, subset)
    num_workers = workers_of(config.data, rank_cpus())
    dataset = ClipDataset(
        segments=data.segments,
        gvf=data.gvf,
        videos=data.videos,
        clips=config.clips,
        seed=config.seed,
        epoch=epoch,
        training=training,
        bad_clips=config.data.bad_clips,
        resized=config.data.training_copy,
        notes=WorkerNotes.new(num_workers, data.crashed),
    )
    if config.data.workers is None:
        num_workers = fitting_workers(dataset.clip_bytes * batch, num_workers)
    return ClipLoader(
        dataset=dataset,
        data=data,
        steps=_steps(config, dataset, batch, rank=rank, world_size=world_size),
        config=config.data,
        num_workers=num_workers,
        start_step=start_step,
        pin_memory=pin_memory,
    )


def _steps(config: RunConfig, dataset: ClipDataset, batch: int, **deal: int) -> list[Step]:
    """The items that a rank reads in each step. Args: deal, its rank and the world size."""
    if not dataset.training:
        return as_steps(validation_batches(len(dataset), batch, **deal))
    draw = {"seed": dataset.seed, "epoch": dataset.epoch, **deal}
    if config.data.one_pass:
        return mixed_steps(len(dataset.segments), config.clips.per_segment, batch, **draw)
    return as_steps(training_batches(len(dataset), batch, **draw))


def load_subset(config: RunConfig, subset: Subset) -> SubsetData:
    """Tables, label maps and features of a subset.

    Raises: DataError or ConfigError naming the file.
    """
    files = DatasetFiles(config.data, config.store)
    part: SubsetConfig = getattr(config.data, subset)
    heads = [(head.label_column, files.table(head.labels)) for head in config.model.heads]
    segments = load_segments(files.table(part.csv), heads, config.clips)
    counts = segments.counts
    log.info(
        "%s: %d of %s in %s (%d too short, %d cut to their video)",
        part.csv, counts.kept, counted(counts.rows, "segment"), counted(len(segments.filenames), "video"),
        counts.too_short, counts.clamped,
    )  # fmt: skip
    if counts.ends_first:
        log.warning(
            "%s: %s left out because the end is before the start (the first in row %d), see 'tspctl data check'",
            part.csv, counted(len(counts.ends_first), "segment"), counts.ends_first[0],
        )  # fmt: skip
    gvf = None
    if config.model.gvf != "none" and part.gvf is not None:
        refuse_shared_names(segments.path, segments.filenames)
        gvf = to_shared(GvfFile(files.table(part.gvf)).load([video_name(name) for name in segments.filenames]))
    return SubsetData(
        segments=SharedSegments.of(segments),
        gvf=gvf,
        labels=tuple(load_label_map(labels) for _, labels in heads),
        videos=files.videos(part.videos),
        crashed=to_shared(np.zeros(len(segments.filenames), np.bool_)),
    )
