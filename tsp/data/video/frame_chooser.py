"""The frames of a video that its clips need: arithmetic on presentation times, no decoding."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tsp.data.clips import last_pts

Want = tuple[int, int]
"""Number of the clip, number of the frame within it."""


class FrameChooser:
    """Finds the frames of clips from presentation times in rising order.

    The first frame of a clip is the one on screen at its start: the last whose presentation time is not after it. The
    others lie ``offsets`` frames further on. So it is known whether a frame is wanted as soon as the next presentation
    time is. Before a picture that begins late, its first frame counts as shown again and again at the file's rate.
    """

    def __init__(self, starts_sec: Sequence[float], offsets: Sequence[int], time_base: Fraction, fps: Fraction) -> None:
        """Args: starts_sec, the clips', in any order; time_base, seconds per unit of time; fps, the file's rate."""
        order = sorted(range(len(starts_sec)), key=lambda clip: starts_sec[clip])
        self._queue = [(last_pts(starts_sec[clip], time_base), clip) for clip in order]
        self._offsets = offsets
        self._starts_sec, self._time_base, self._fps = starts_sec, time_base, fps
        self._next_clip = 0
        self._num_pushed = 0
        self._last_pushed: int | None = None
        self._previous: int | None = None
        self._last_wanted: int | None = None
        self._wants_at: dict[int, list[Want]] = {}
        self.wanted: dict[int, list[Want]] = {}
        """Presentation time -> what it is wanted for; grows with every push."""

    @property
    def first_target(self) -> int:
        """The presentation time before which decoding has to begin."""
        return self._queue[0][0]

    @property
    def complete(self) -> bool:
        """Whether every frame of every clip has been found, and no later one has the time of the last."""
        is_found = self._next_clip == len(self._queue) and not self._wants_at
        return is_found and self._last_wanted is not None and self._last_wanted < (self._last_pushed or 0)

    def push(self, pts: int) -> bool:
        """Add the next presentation time; False, without effect, if it is not larger than all before."""
        if self._last_pushed is not None and pts <= self._last_pushed:
            return False
        while self._next_clip < len(self._queue) and pts > self._queue[self._next_clip][0]:
            # The frame before this one is on screen at the clip's start; at the very beginning none is.
            self._anchor(self._num_pushed - 1 if self._num_pushed else self._before_the_first(pts))
        self._previous, self._last_pushed = self._last_pushed, pts
        self._resolve(self._num_pushed, pts)
        self._num_pushed += 1
        return True

    def _before_the_first(self, pts: int) -> int:
        """Number, at most 0, of the frame at the next clip's start, counted back from a first picture that is late.

        From the start itself, not from its unit of time, which may be half a frame earlier.
        """
        start_sec = self._starts_sec[self._queue[self._next_clip][1]]
        return -round((pts * self._time_base.numerator / self._time_base.denominator - start_sec) * float(self._fps))

    def finish(self) -> None:
        """No presentation time is left."""
        while self._next_clip < len(self._queue) and self._last_pushed is not None:
            self._anchor(self._num_pushed - 1)

    def is_decided(self, pts: int) -> bool:
        """Whether it is decided if the frame is needed."""
        return self._last_pushed is not None and (pts < self._last_pushed or self.complete)

    def missing(self) -> int:
        """How many frames the clips want past the last presentation time."""
        anchored = sum(len(wants) for wants in self._wants_at.values())
        return anchored + (len(self._queue) - self._next_clip) * len(self._offsets)

    def _anchor(self, first: int) -> None:
        clip = self._queue[self._next_clip][1]
        self._next_clip += 1
        for k, offset in enumerate(self._offsets):
            self._wants_at.setdefault(max(first + offset, 0), []).append((clip, k))
        # Frames at or before the last push are known at once: an anchor is at most one frame back.
        for index, pts in ((self._num_pushed - 2, self._previous), (self._num_pushed - 1, self._last_pushed)):
            if pts is not None:
                self._resolve(index, pts)

    def _resolve(self, index: int, pts: int) -> None:
        wants = self._wants_at.pop(index, None)
        if wants:
            self.wanted.setdefault(pts, []).extend(wants)
            self._last_wanted = max(pts, self._last_wanted if self._last_wanted is not None else pts)
