"""Reads the frames of clips from video files: seeks, decodes and converts only what is needed.

Problem: a clip needs a few frames, a decoder must start at a key frame, and converting pixels costs as much as decoding
them; key-frame marks, indices and times of real files may be wrong.
Idea: the times of a clip's frames are known before anything is decoded, so frames that no clip needs are skipped where
the codec allows it, clips that are close together are read in one pass, and only needed frames are converted to pixels.
The fastest decoder for a file is tried first; if it cannot be sure of a frame, it raises UnsureError, and the next,
slower one repeats the pass, the last one from the file's beginning.
Invariants: every decoder gives the same pixels; each frame of each clip is returned exactly once, or VideoError says
how many are missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import av.error
import numpy as np
from av.video.frame import VideoFrame

from tsp.data.clips import exact_rate, frame_offsets, last_pts
from tsp.data.video.colour import converting, full_range, to_rgb
from tsp.data.video.decode_ways import Way, decode_all, decode_all_from_beginning, decode_wanted
from tsp.data.video.errors import VideoError, reading
from tsp.data.video.frame_chooser import FrameChooser, Want
from tsp.data.video.open_sources import OpenSources
from tsp.data.video.open_video import UnsureError, VideoSource
from tsp.errors import TspError

DIRECT_FORMATS = frozenset({"yuv420p", "yuvj420p"})
"""Pixel formats that FFmpeg turns into RGBA with the bits of RGB24, but for the widths in ``_pixels``."""
MAX_RATE_ERROR = 0.01
"""A table's frame rate that differs more from the file's own counts as a mistake."""


class WantedFrame(NamedTuple):
    """One frame of one clip."""

    clip: int
    """Index among the requested starts."""
    k: int
    """Which frame of the clip."""
    pixels: np.ndarray
    """uint32 [H, at least W]: bytes R, G, B and one without meaning; columns from W on are padding. A view whose pixels
    lie three bytes apart for frames that are stored raw."""
    width: int
    """W in pixels."""

    @property
    def rgb(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        pixels = np.ascontiguousarray(self.pixels)
        return pixels.view(np.uint8).reshape(*pixels.shape, 4)[:, : self.width, :3]


class ClipReader:
    """Reads clips, keeping the last files open. One per process; not to be shared between threads."""

    def __init__(
        self, *, length_frames: int = 16, rate_fps: float = 15.0, max_open: int = 8, short_cuts: bool = True
    ) -> None:
        """short_cuts=False decodes every frame from the key frame on; the pixels are the same."""
        self._length_frames = length_frames
        self._rate_fps = exact_rate(rate_fps)
        self._short_cuts = short_cuts
        self._sources = OpenSources(max_open)

    def close(self) -> None:
        """Close all files."""
        self._sources.close()

    def frames(
        self, path: str | Path, starts_sec: Sequence[float], *, file_fps: float | None = None
    ) -> Iterator[WantedFrame]:
        """The frames of clips of one file, decoded in one pass, in the order they are shown.

        Args: starts_sec, the clips' starts in any order; file_fps, the table's frame rate, used unless it is more
            than 1 % away from the file's own.
        Raises: VideoError if the file cannot be read or is shorter than the clips need.
        """
        try:
            with reading(path, f"cannot be decoded near {min(starts_sec):.3f} s"):
                yield from self._frames(path, starts_sec, file_fps)
        except TspError:
            self._sources.drop(path)
            raise

    def read(self, path: str | Path, start_sec: float, *, file_fps: float | None = None) -> np.ndarray:
        """One clip as uint8 RGB [T, H, W, 3].

        Raises: VideoError as ``frames``.
        """
        frames = sorted(self.frames(path, [start_sec], file_fps=file_fps), key=attrgetter("k"))
        rgb = [frame.rgb for frame in frames]
        if len({image.shape for image in rgb}) != 1:
            raise VideoError(f"{path} changes its frame size near {start_sec:.3f} s: standardise it first")
        return np.stack(rgb)

    def _frames(self, path: str | Path, starts_sec: Sequence[float], file_fps: float | None) -> Iterator[WantedFrame]:
        source = self._sources.get(path)
        fps = _frame_rate(source, file_fps)
        offsets = frame_offsets(self._rate_fps, fps, self._length_frames)
        if self._short_cuts and (wanted := _numbered(source, starts_sec, offsets)):
            yield from _by_number(source, wanted)
            return
        for clips in self._passes(source, starts_sec, offsets):
            for frame in self._one_pass(source, [starts_sec[clip] for clip in clips], offsets, fps):
                yield frame._replace(clip=clips[frame.clip])

    def _passes(self, source: VideoSource, starts_sec: Sequence[float], offsets: tuple[int, ...]) -> list[list[int]]:
        """Clips by passes: a clip begins a new one where a key frame after the clip before it is nearer to it."""
        passes: list[list[int]] = []
        end_pts = 0
        for clip in sorted(range(len(starts_sec)), key=lambda clip: starts_sec[clip]):
            start_pts = last_pts(starts_sec[clip], source.time_base)
            key = source.key_frame_before(start_pts)
            if not passes or (key is not None and key > end_pts):
                passes.append([])
            passes[-1].append(clip)
            end_pts = start_pts + math.ceil(self._length_frames / self._rate_fps / source.time_base)
        return passes

    def _one_pass(
        self, source: VideoSource, starts_sec: Sequence[float], offsets: tuple[int, ...], fps: Fraction
    ) -> Iterator[WantedFrame]:
        num_frames, got = len(starts_sec) * len(offsets), set[Want]()
        for decode in self._ways(source):
            chooser = FrameChooser(starts_sec, offsets, source.time_base, fps)
            try:
                for frame in decode(source, chooser):
                    wants = [want for want in chooser.wanted[frame.pts or 0] if want not in got]
                    if wants:
                        pixels = _pixels(source, frame)
                        got.update(wants)
                        yield from (WantedFrame(*want, pixels, frame.width) for want in wants)
            except (UnsureError, av.error.InvalidDataError):
                if decode is decode_all_from_beginning:
                    raise
            else:
                if len(got) == num_frames:
                    return
                if chooser.missing():
                    break
        raise VideoError(
            f"{source.path} ends too early: {num_frames - len(got)} of the {num_frames} frames of the clips "
            f"between {min(starts_sec):.3f} and "
            f"{max(starts_sec) + self._length_frames / float(self._rate_fps):.3f} s are missing; check its "
            "video-duration in the table with 'tspctl data check'"
        )

    def _ways(self, source: VideoSource) -> list[Way]:
        """Ways to decode, fastest first; the later ones are for files that the earlier ones cannot read."""
        if source.key_marks_lie:
            return [decode_all_from_beginning]
        skippable = self._short_cuts and (source.is_intra or source.is_skippable)
        first: list[Way] = [decode_wanted] if skippable else []
        return [*first, decode_all, decode_all_from_beginning]


def _numbered(
    source: VideoSource, starts_sec: Sequence[float], offsets: tuple[int, ...]
) -> dict[int, list[Want]] | None:
    """What each frame is wanted for, by its number; None where the file is not to be read so, or lacks some of them."""
    if source.index is None:
        return None
    wanted: dict[int, list[Want]] = {}
    for clip, start_sec in enumerate(starts_sec):
        numbers = source.index.numbers(last_pts(start_sec, source.time_base), offsets)
        if numbers is None:
            return None
        for k, number in enumerate(numbers):
            wanted.setdefault(number, []).append((clip, k))
    return wanted


def _by_number(source: VideoSource, wanted: dict[int, list[Want]]) -> Iterator[WantedFrame]:
    assert source.index is not None
    # Another way of reading may have left it at the file's end.
    source.codec.flush_buffers()
    for number in sorted(wanted):
        frame = source.index.frame(number)
        pixels, width = (
            (_pixels(source, frame), frame.width) if isinstance(frame, VideoFrame) else (frame, frame.shape[1])
        )
        for clip, k in wanted[number]:
            yield WantedFrame(clip, k, pixels, width)


def _frame_rate(source: VideoSource, file_fps: float | None) -> Fraction:
    """The table's frame rate if the file's times agree with it; else the file's own."""
    own = source.fps
    given = exact_rate(file_fps) if file_fps is not None and file_fps > 0 else None
    if own and given and abs(given / own - 1) > MAX_RATE_ERROR:
        return own
    rate = given or own
    if rate:
        return rate
    raise VideoError(f"neither {source.path} nor a table states the frame rate")


def _pixels(source: VideoSource, frame: VideoFrame) -> np.ndarray:
    """uint32 [H, padded W], the bits of ``frame.to_rgb()``. Four bytes a pixel are quicker to make and to pick from.

    FFmpeg's direct way leaves the last columns black in widths of 16 n + 1 ... 16 n + 4, and was checked for two
    formats only; everything else goes by RGB24.
    """
    with converting(source.path, frame):
        if frame.width % 16 in (1, 2, 3, 4) or frame.format.name not in DIRECT_FORMATS or full_range(frame):
            frame = to_rgb(source.rgb_reformatter, frame)
        plane = source.reformatter.reformat(frame, format="rgba", threads=1).planes[0]
    return np.frombuffer(memoryview(plane), np.uint32).reshape(plane.height, plane.line_size // 4)
