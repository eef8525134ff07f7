"""The batches of an epoch and their order: arithmetic on item numbers, a function of (seed, epoch).

One pass over a segment yields all its clips at once, which would fill a batch with clips of one segment. So segments
are read in random order into a buffer, and batches are drawn from it at random, avoiding two clips of a segment in one
batch where possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tsp.data.randomness import random_numbers

# Streams of random numbers that must not collide with those of the items.
_ORDER, _MIXED_ORDER, _MIXED_DRAW = ((1 << 64) - number for number in (1, 2, 3))
BUFFER_CLIPS = 320
"""Clips waiting to be drawn, per rank: ten batches of 32; a gigabyte of pixels."""
_TRIES = 16


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of a rank."""

    items: tuple[int, ...]
    """The batch's items, in its order."""
    groups: tuple[tuple[int, ...], ...]
    """With one pass a segment: the items to be read before it, by segment; none occurs twice in an epoch."""


def mixed_steps(
    num_segments: int,
    per_segment: int,
    batch: int,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    buffer_clips: int = BUFFER_CLIPS,
) -> list[Step]:
    """This rank's batches of an epoch; all ranks have the same number.

    Segments are padded by starting over so that they can be dealt evenly.
    """
    order = random_numbers(seed, epoch, _MIXED_ORDER).permutation(num_segments)
    padded = np.resize(order, -(-num_segments // world_size) * world_size)
    mine = [int(segment) for segment in padded[rank::world_size]]
    groups = iter([tuple(range(segment, num_segments * per_segment, num_segments)) for segment in mine])
    rng = random_numbers(seed, epoch, _MIXED_DRAW - rank)
    return list(_draw(groups, len(mine) * per_segment, num_segments, batch, max(buffer_clips, batch), rng))


def _draw(
    groups: Iterator[tuple[int, ...]],
    num_clips: int,
    num_segments: int,
    batch: int,
    buffer_clips: int,
    rng: np.random.Generator,
) -> Iterator[Step]:
    buffer: list[int] = []
    for begin in range(0, num_clips, batch):
        read: list[tuple[int, ...]] = []
        while len(buffer) < buffer_clips and (group := next(groups, None)) is not None:
            read.append(group)
            buffer.extend(group)
        items: list[int] = []
        used: set[int] = set()
        for _ in range(min(batch, num_clips - begin)):
            at = _pick(buffer, used, num_segments, rng)
            # The order within the buffer is irrelevant: fill the gap with the last.
            item, buffer[at] = buffer[at], buffer[-1]
            buffer.pop()
            used.add(item % num_segments)
            items.append(item)
        yield Step(tuple(items), tuple(read))


def _pick(buffer: list[int], used: set[int], num_segments: int, rng: np.random.Generator) -> int:
    """A random index into the buffer, of a segment not yet in the batch if a few tries find one."""
    indices: list[int] = (rng.random(_TRIES) * len(buffer)).astype(int).tolist()
    return next((at for at in indices if buffer[at] % num_segments not in used), indices[0])


def steps_from(steps: list[Step], start_step: int) -> list[Step]:
    """The steps from start_step on; clips they need from earlier groups are read first, and no others."""
    needed = {item for step in steps[start_step:] for item in step.items}
    late = [tuple(item for item in group if item in needed) for step in steps[:start_step] for group in step.groups]
    carried = tuple(group for group in late if group)
    rest = steps[start_step:]
    return [Step(rest[0].items, carried + rest[0].groups), *rest[1:]] if rest else []


def as_steps(batches: list[np.ndarray]) -> list[Step]:
    """Batches whose clips are read one by one."""
    return [Step(tuple(batch.tolist()), ()) for batch in batches]


def training_batches(
    num_items: int, batch: int, *, seed: int, epoch: int, rank: int, world_size: int
) -> list[np.ndarray]:
    """This rank's items, int64, batch by batch.

    All items in an order made from (seed, epoch), padded by starting over so that they can be dealt evenly, then every
    world_size-th of them, as torch's DistributedSampler deals.
    """
    order = random_numbers(seed, epoch, _ORDER).permutation(num_items)
    padded = np.resize(order, -(-num_items // world_size) * world_size)
    mine = padded[rank::world_size]
    return [mine[at : at + batch] for at in range(0, len(mine), batch)]


def validation_batches(num_items: int, batch: int, *, rank: int, world_size: int) -> list[np.ndarray]:
    """This rank's items, int64, batch by batch: batches are cut from the order of all items, then distributed in turn.
    Every item occurs once, and the content of a batch does not depend on the world size.
    """
    cuts = range(rank * batch, num_items, world_size * batch)
    return [np.arange(at, min(at + batch, num_items)) for at in cuts]
