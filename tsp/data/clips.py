"""Which times and frames a clip consists of: pure arithmetic, without video or randomness.

Seconds are those of the file's presentation times; intervals are half-open. Source: TSP.md's "Data"; the
golden values in the tests were read from the published system.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache


def exact_rate(rate_fps: float | Fraction) -> Fraction:
    """The rate as the fraction of its decimal text: 29.97 is 2997/100, not the nearest binary number."""
    return rate_fps if isinstance(rate_fps, Fraction) else Fraction(repr(float(rate_fps)))


def clip_start_sec(start_sec: float, end_sec: float, share: float, duration_sec: float) -> float:
    """Start of a clip inside a segment.

    Args: start_sec and end_sec, the segment's; share, 0 puts the clip at the segment's start and 1 at its end;
        duration_sec, the clip's.
    """
    return start_sec + share * (end_sec - start_sec - duration_sec)


def uniform_shares(per_segment: int) -> list[float]:
    """Shares in [0, 1] of the validation clips of a segment, evenly spaced: what ``numpy.linspace(0, 1, n)`` gives."""
    if per_segment == 1:
        return [0.0]
    step = 1.0 / (per_segment - 1)
    return [number * step for number in range(per_segment - 1)] + [1.0]


@lru_cache(maxsize=64)
def frame_offsets(rate_fps: float | Fraction, file_fps: float | Fraction, length_frames: int) -> tuple[int, ...]:
    """Offset of each frame of a clip from its first one, in frames of the file: ``floor(k * file_fps / rate_fps)``.

    Computed exactly: at 25 fps frame 3 of a 15 fps clip is frame 5, which floating point can make a 4.
    """
    step = exact_rate(file_fps) / exact_rate(rate_fps)
    return tuple(math.floor(k * step) for k in range(length_frames))


def holds_a_clip(start_sec: float, end_sec: float, rate_fps: float, length_frames: int) -> bool:
    """Whether a segment is as long as one clip."""
    return (end_sec - start_sec) * rate_fps >= length_frames


def last_pts(start_sec: float, time_base: Fraction) -> int:
    """The largest presentation time, in units of time_base, that is on screen at start_sec.

    A presentation time counts as the double nearest to it. ``floor(start_sec / time_base)`` would miss one frame
    where start_sec was computed as k/30 and rounded down: 1.1 % of such clips would start a frame early.
    """
    pts = math.floor(Fraction(start_sec) / time_base)
    while (pts + 1) * time_base.numerator / time_base.denominator <= start_sec:
        pts += 1
    return pts


def extraction_starts_sec(
    video_frames: int, file_fps: float, *, stride_frames: int, length_frames: int, rate_fps: float
) -> list[float]:
    """Starts of the clips that slide over a whole video for feature extraction.

    The video is first thinned to rate_fps; a clip starts at every stride_frames-th remaining frame, as long as
    length_frames of them follow. Frame n lies at n / file_fps.
    Args: stride_frames, in frames at rate_fps.
    """
    step = exact_rate(file_fps) / exact_rate(rate_fps)
    # The original slices where the step is whole and rounds the count down elsewhere; both are kept.
    thinned = math.ceil(video_frames / step) if step.denominator == 1 else math.floor(video_frames / step)
    firsts: Sequence[int] = range(0, thinned - length_frames + 1, stride_frames)
    return [math.floor(first * step) / file_fps for first in firsts]
