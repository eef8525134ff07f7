"""Batches mixed from clips that were read a segment at a time, each segment in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsp.data.batch import ClipBatch
from tsp.data.dataset import ClipDataset, ReadClip
from tsp.data.epoch_order import Step
from tsp.data.workers import WorkerFailure


@dataclass(frozen=True, slots=True)
class GroupOfClips:
    """Clips of one segment."""

    pixels: Tensor
    """uint8 [clips, T, S, S, 4]"""
    clips: list[ReadClip]


class GroupDataset(Dataset[GroupOfClips | WorkerFailure]):
    """Reads the clips of a segment in one pass: ``groups[items]``."""

    def __init__(self, clips: ClipDataset) -> None:
        self._clips = clips

    def __getitem__(self, items: tuple[int, ...]) -> GroupOfClips | WorkerFailure:
        try:
            pixels, out = self._clips.new_pixels(len(items))
            return GroupOfClips(pixels, self._clips.read_group(list(items), out))
        except Exception as error:
            return WorkerFailure(error)


def mix(
    dataset: ClipDataset, steps: list[Step], groups: Iterator[GroupOfClips], *, pin_memory: bool
) -> Iterator[ClipBatch]:
    """The steps' batches, assembled from groups that arrive in the steps' order."""
    waiting: dict[int, tuple[Tensor, ReadClip]] = {}
    for step in steps:
        for _ in step.groups:
            group = next(groups)
            # Copies: otherwise one waiting clip would keep its whole group's shared memory.
            waiting.update({clip.item: (group.pixels[row].clone(), clip) for row, clip in enumerate(group.clips)})
        pixels, clips = zip(*(waiting.pop(item) for item in step.items), strict=True)
        batch = dataset.assemble(torch.stack(pixels), list(clips))
        yield batch.pin_memory() if pin_memory else batch


def one_ahead(batches: Iterable[ClipBatch]) -> Iterator[ClipBatch]:
    """The same batches, each assembled by a thread while its predecessor is in use."""
    source = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        pending = thread.submit(next, source, None)
        while (batch := pending.result()) is not None:
            pending = thread.submit(next, source, None)
            yield batch
