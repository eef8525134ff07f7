"""All frames that the clips of a whole video need, decoded in one pass, each returned once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av.error
import numpy as np

from tsp.data.clips import exact_rate, frame_offsets
from tsp.data.video.decode_ways import Way, decode_all_from_beginning, decode_wanted
from tsp.data.video.errors import VideoError, reading
from tsp.data.video.frame_chooser import FrameChooser
from tsp.data.video.open_video import UnsureError, VideoSource
from tsp.data.video.reader import _frame_rate, _pixels


class SlideFrame(NamedTuple):
    """One frame that some clip needs."""

    number: int
    """Which frame of the file, in the order of presentation."""
    pixels: np.ndarray
    """uint32 [H, at least W], as ``WantedFrame.pixels``."""
    width: int


class SlideChooser(FrameChooser):
    """Finds the frames of clips like FrameChooser; each frame is needed once, however many clips share it. Its memory
    does not grow with the number of pairs of frame and clip: an hour of video has a million of them.
    """

    def __init__(self, starts_sec: Sequence[float], offsets: Sequence[int], time_base: Fraction, fps: Fraction) -> None:
        super().__init__(starts_sec, offsets, time_base, fps)
        self.firsts: list[int] = []
        """Number of each clip's first frame, in the order of the starts; grows as times go by."""

    @property
    def end_pts(self) -> int | None:
        """The largest presentation time so far."""
        return self._last_pushed

    def _anchor(self, first: int) -> None:
        self._next_clip += 1
        self.firsts.append(first)
        for offset in self._offsets:
            number = max(first + offset, 0)
            self._wants_at.setdefault(number, [(number, 0)])
        # The clip begins at the last time pushed, so only that frame can be known already.
        if self._last_pushed is not None:
            self._resolve(self._num_pushed - 1, self._last_pushed)


class Slide:
    """One pass over one video. Clips may share frames; a frame is decoded and converted once."""

    def __init__(
        self,
        path: str | Path,
        starts_sec: Sequence[float],
        *,
        file_fps: float | None = None,
        length_frames: int = 16,
        rate_fps: float = 15.0,
        short_cuts: bool = True,
    ) -> None:
        """Open the file.

        Args: starts_sec, the clips' starts, rising; file_fps, the table's frame rate; short_cuts=False decodes every
            frame, the pixels are the same.
        Raises: VideoError if the file cannot be opened or says no frame rate.
        """
        if list(starts_sec) != sorted(starts_sec) or not starts_sec:
            raise ValueError("a slide takes one start or more, in rising order")
        self._source = VideoSource(path)
        self._starts_sec = starts_sec
        self._short_cuts = short_cuts
        self._fps = fps = _frame_rate(self._source, file_fps)
        self._refuse_contradiction(file_fps)
        self._frame_sec = float(1 / fps)
        self.offsets = frame_offsets(exact_rate(rate_fps), fps, length_frames)
        """How many frames after its first one each frame of a clip lies."""
        self.firsts: Sequence[int] = ()
        """Number of each clip's first frame; at least those of the clips that the frames handed out belong to."""
        self.num_beyond = 0
        """Clips that begin only after the file has ended; known at the end."""

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def frames(self) -> Iterator[SlideFrame]:
        """The frames that the clips need, in the order they are shown; fewer where the file ends before the last clip.

        Raises: VideoError if the file cannot be decoded.
        """
        source, last = self._source, -1
        with reading(source.path, "cannot be decoded"):
            for decode in self._ways():
                chooser = SlideChooser(self._starts_sec, self.offsets, source.time_base, self._fps)
                self.firsts = chooser.firsts
                try:
                    for frame in decode(source, chooser):
                        number = chooser.wanted.pop(frame.pts or 0)[0][0]
                        if number > last:
                            last = number
                            yield SlideFrame(number, _pixels(source, frame), frame.width)
                except (UnsureError, av.error.InvalidDataError):
                    if decode is decode_all_from_beginning:
                        raise
                else:
                    if not chooser.wanted:
                        self._finish(chooser)
                        return
            raise VideoError(
                f"{source.path} has frames that cannot be decoded after frame {last}: standardise it first"
            )

    def _refuse_contradiction(self, file_fps: float | None) -> None:
        if file_fps and self._fps != exact_rate(file_fps):
            self._source.close()
            raise VideoError(
                f"{self._source.path} has {float(self._fps):.3f} frames per second, but the table says "
                f"{file_fps:g}, so its times and counts are those of another file: write the table with 'tspctl "
                "data probe'"
            )

    def _ways(self) -> list[Way]:
        skippable = self._short_cuts and self._source.is_skippable
        return [*([decode_wanted] if skippable else []), decode_all_from_beginning]

    def _finish(self, chooser: SlideChooser) -> None:
        if chooser.end_pts is None:
            raise VideoError(f"{self._source.path} contains no frame")
        # The last frame stays on screen for one frame's time; the tolerance is that of times in microseconds.
        end_sec = float(chooser.end_pts * self._source.time_base) + self._frame_sec - 1e-6
        self.num_beyond = sum(start_sec >= end_sec for start_sec in self._starts_sec) if chooser.missing() else 0
