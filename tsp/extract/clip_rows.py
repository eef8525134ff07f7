"""Which of the decoded frames make up each clip: pure bookkeeping, no pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class ClipRows:
    """Turns arriving frame numbers into clips: rows of positions among all frames so far.

    Only frames that a later clip can need are remembered.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self._offsets = offsets
        self._positions: dict[int, int] = {}
        self._num_frames = 0
        self._last = -1
        self.num_clips = 0
        """Clips returned so far."""

    @property
    def oldest_position(self) -> int:
        """Position of the oldest frame that a later clip can need."""
        return next(iter(self._positions.values()), self._num_frames)

    def add(self, number: int) -> None:
        """The next frame; numbers rise."""
        self._positions[number] = self._num_frames
        self._num_frames += 1
        self._last = number

    def complete(self, firsts: Sequence[int]) -> np.ndarray:
        """Clips whose frames have all arrived, int64 [clips, T].

        Args: firsts, number of each clip's first frame, as far as known; below 0 where the picture begins later.
        """
        begin = self.num_clips
        while self.num_clips < len(firsts) and firsts[self.num_clips] + self._offsets[-1] <= self._last:
            self.num_clips += 1
        rows = self._rows(firsts[begin : self.num_clips])
        self._forget(firsts[self.num_clips] if self.num_clips < len(firsts) else self._last)
        return rows

    def padded(self, firsts: Sequence[int]) -> np.ndarray:
        """The remaining clips when no frame follows, with the last frame repeated, int64 [clips, T]."""
        rows = self._rows(firsts[self.num_clips :])
        self.num_clips = len(firsts)
        return rows

    def _rows(self, firsts: Sequence[int]) -> np.ndarray:
        rows = [
            [self._positions[max(0, min(first + offset, self._last))] for offset in self._offsets] for first in firsts
        ]
        return np.array(rows, np.int64).reshape(-1, len(self._offsets))

    def _forget(self, before: int) -> None:
        # Frames arrive in rising order, which dicts keep.
        for number in list(self._positions):
            if number >= min(before, self._last):
                break
            del self._positions[number]
