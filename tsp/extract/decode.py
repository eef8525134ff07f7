"""Turns one video into chunks of frames and clips; runs in a decoding process, without the encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsp.config.run import ClipConfig
from tsp.data.dataset_files import Videos
from tsp.data.pixel_plan import PixelPlan, central_crop, gather, plan_pixels
from tsp.data.tables import VideoFacts
from tsp.data.video import VideoError
from tsp.data.video.sliding_clips import Slide, SlideFrame
from tsp.extract.clip_rows import ClipRows
from tsp.extract.slide_plan import SlidePlan

CHUNK_FRAMES = 32
"""Frames per chunk: 6 MiB at the usual crop, whatever the size of the video."""

BYTES_PER_PIXEL = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next frames of a video, and the clips that they complete."""

    pixels: np.ndarray
    """uint8 [N, 2C, 2C, 4], as ``ClipBatch.pixels``: the four source pixels of each output pixel."""
    rows: np.ndarray
    """int64 [clips, T]: positions of the clips' frames among all frames of this video so far."""
    oldest_position: int
    """Frames before this position are no longer needed."""
    row_weights: np.ndarray
    """float32 [C]"""
    column_weights: np.ndarray
    """float32 [C]"""


@dataclass(frozen=True, slots=True)
class VideoEnd:
    """All of a video was read."""

    num_clips: int
    num_padded: int
    """Clips that end with the video's last frame repeated."""


def decode_video(source: Videos, video: VideoFacts, plan: SlidePlan) -> Iterator[Chunk | VideoEnd]:
    """The chunks of a video, then its end.

    Raises: VideoError if the file cannot be decoded, or ends before one of its clips begins.
    """
    with source.reading(video.filename) as path:
        slide = Slide(
            path,
            plan.starts_sec(video),
            file_fps=video.fps,
            length_frames=plan.length_frames,
            rate_fps=plan.rate_fps,
        )
        with closing(slide):
            yield from _chunks(slide, path, video, plan.picture)


def _chunks(slide: Slide, path: Path, video: VideoFacts, picture: ClipConfig) -> Iterator[Chunk | VideoEnd]:
    rows, pixels = ClipRows(slide.offsets), PixelChunk(str(path), picture)
    for frame in slide.frames():
        pixels.add(frame)
        rows.add(frame.number)
        if pixels.is_full:
            yield pixels.take(rows.complete(slide.firsts), rows.oldest_position)
    if slide.num_beyond:
        raise VideoError(
            f"{path} ends before {slide.num_beyond} of its {len(slide.firsts)} clips begin: the table's "
            f"{video.num_frames} frames at {video.fps:g} fps are too many, or the file is truncated; probe it again"
        )
    complete = rows.complete(slide.firsts)
    padded = rows.padded(slide.firsts)
    yield pixels.take(np.concatenate([complete, padded]), rows.oldest_position)
    yield VideoEnd(rows.num_clips, len(padded))


class PixelChunk:
    """Gathers what the validation crop needs of frames of one size."""

    def __init__(self, path: str, picture: ClipConfig) -> None:
        self._path, self._picture = path, picture
        self._size: tuple[int, ...] = ()
        self._plan: PixelPlan | None = None
        self._index = np.empty(0, np.int64)
        self._pixels = np.empty(0, np.uint32)
        self._num_frames = 0

    @property
    def is_full(self) -> bool:
        """Whether the chunk is full."""
        return self._num_frames == CHUNK_FRAMES

    def add(self, frame: SlideFrame) -> None:
        """Gather one frame.

        Raises: VideoError if its size is not that of the frames before.
        """
        size = (*frame.pixels.shape, frame.width)
        if self._plan is None:
            self._begin(size)
        if size != self._size:
            raise VideoError(f"{self._path} changes its frame size at frame {frame.number}: standardise it first")
        gather(frame.pixels, self._index, self._pixels[self._num_frames])
        self._num_frames += 1

    def take(self, rows: np.ndarray, oldest_position: int) -> Chunk:
        """The frames gathered since the last call, with the clips they complete."""
        assert self._plan is not None, "a slide hands out one frame at least, or raises"
        pixels = self._pixels[: self._num_frames].view(np.uint8).reshape(-1, *self._index.shape, BYTES_PER_PIXEL)
        # The chunk may still be read: the next frames get new memory.
        self._pixels, self._num_frames = np.empty_like(self._pixels), 0
        return Chunk(pixels, rows, oldest_position, self._plan.row_weights, self._plan.column_weights)

    def _begin(self, size: tuple[int, ...]) -> None:
        height_px, stride, width_px = size
        geometry = self._picture
        crop = central_crop(geometry.resize_height_px, geometry.resize_width_px, geometry.crop_px)
        self._size = size
        self._plan = plan_pixels(
            height_px,
            width_px,
            resize_height_px=geometry.resize_height_px,
            resize_width_px=geometry.resize_width_px,
            crop_px=geometry.crop_px,
            crop=crop,
        )
        self._index = self._plan.source_index(stride)
        self._pixels = np.empty((CHUNK_FRAMES, *self._index.shape), np.uint32)
