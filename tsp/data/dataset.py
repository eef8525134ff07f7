"""Batches of clips, as a data worker reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsp.config.run import BadClipPolicy, ClipConfig
from tsp.data.batch import ClipBatch, Problem
from tsp.data.copy_name import stored_width
from tsp.data.dataset_files import Videos
from tsp.data.pixel_plan import PixelPlan, SourceIndex, gather, plan_pixels, plan_resized
from tsp.data.randomness import Draw, draw_training, draw_validation, start_of
from tsp.data.segments import UNLABELLED, Segment
from tsp.data.shared_memory import SharedSegments, empty_batch
from tsp.data.video import ClipReader, VideoError, WantedFrame
from tsp.data.workers import NO_ITEM, WorkerFailure, WorkerNotes
from tsp.errors import DataError, TspError

MAX_OPEN_VIDEOS = 8
"""Files a worker keeps open; a 720p decoder holds ten megabytes or more."""
MAX_OPEN_COPIES = 128
"""Training copies a worker keeps open: opening one costs nearly as much as a clip, keeping it almost nothing."""


@dataclass(kw_only=True, eq=False)
class ClipDataset(Dataset[ClipBatch | WorkerFailure]):
    """Reads whole batches: ``dataset[items]`` is a ClipBatch of the clips with those numbers."""

    segments: SharedSegments
    gvf: Tensor | None
    """float32 [F, 512] by file, in shared memory."""
    videos: Videos
    clips: ClipConfig
    seed: int
    epoch: int
    training: bool
    bad_clips: BadClipPolicy
    resized: bool
    """Whether the files are training copies."""
    notes: WorkerNotes
    _reader: ClipReader | None = field(default=None, init=False)
    """Created by the process that reads."""

    def __len__(self) -> int:
        return len(self.segments) * self.clips.per_segment

    def __getitem__(self, items: np.ndarray) -> ClipBatch | WorkerFailure:
        """The clips of these numbers.

        An error is returned, not raised: torch would bury its message in a worker's traceback.
        """
        try:
            return self._read_batch([int(item) for item in items])
        except Exception as error:
            return WorkerFailure(error)

    def _read_batch(self, items: list[int]) -> ClipBatch:
        pixels, out = self.new_pixels(len(items))
        clips = [self.read_clip(item, out[row]) for row, item in enumerate(items)]
        self.notes.begin(NO_ITEM)
        return self.assemble(pixels, clips)

    def new_pixels(self, num_clips: int) -> tuple[Tensor, np.ndarray]:
        """Memory for clips: uint8 [B, T, S, S, 4], and the same memory as uint32 [B, T, S, S] to gather into."""
        side = self.clips.crop_px * (1 if self.resized else 2)
        pixels = empty_batch(num_clips, self.clips.length_frames, side, side, 4)
        return pixels, pixels.numpy().view(np.uint32)[..., 0]

    def assemble(self, pixels: Tensor, clips: list[ReadClip]) -> ClipBatch:
        """The batch of clips whose pixels were read; bad ones repeat a good one's pixels, unlabelled."""
        good = [row for row, clip in enumerate(clips) if clip.plan is not None]
        plans = [clip.plan or (clips[good[0]].plan if good else None) for clip in clips]
        for row, clip in enumerate(clips):
            if clip.plan is None:
                pixels[row] = pixels[good[0]] if good else 0
        is_good = torch.zeros(len(clips), dtype=torch.bool)
        is_good[good] = True
        segments = torch.tensor([clip.segment_index for clip in clips])
        targets = self.segments.labels[segments]
        targets[~is_good] = UNLABELLED
        none = np.zeros(0 if self.resized else self.clips.crop_px, np.float32)
        weights = [(plan.row_weights, plan.column_weights) if plan else (none, none) for plan in plans]
        row_weights, column_weights = (torch.from_numpy(np.stack(axis)) for axis in zip(*weights, strict=True))
        return ClipBatch(
            pixels=pixels,
            row_weights=None if self.resized else row_weights,
            column_weights=None if self.resized else column_weights,
            targets=targets,
            gvf=None if self.gvf is None else self.gvf[self.segments.file_index[segments].long()],
            items=torch.where(is_good, torch.tensor([clip.item for clip in clips]), -1),
            names=tuple(clip.name for clip in clips),
            problems=tuple(problem for clip in clips for problem in clip.problems),
            num_bad=sum(bool(clip.problems) for clip in clips),
        )

    def read_clip(self, item: int, out: np.ndarray) -> ReadClip:
        """One clip into out, uint32 [T, S, S], under the policy for clips that cannot be decoded."""
        self.notes.begin(item)
        clip = ReadClip(item, item % len(self.segments))
        segment, draw = self.segments[clip.segment_index], self.draw(item)
        where = f"{self.segments.path} row {segment.row}"
        for attempt in range(len(draw.shares) if self.bad_clips == "resample" else 1):
            start_sec = self._start_sec(segment, draw, attempt)
            clip.name = f"{segment.filename} at {start_sec:.3f} s ({where})"
            try:
                (clip.plan,) = self._gather(clip.segment_index, [(start_sec, draw, out)])
                break
            except VideoError as error:
                message = f"{error} ({where})"
                if self.bad_clips == "fail":
                    raise VideoError(message) from error
                clip.problems.append(Problem(segment.filename, message))
        return clip

    def read_group(self, items: list[int], out: np.ndarray) -> list[ReadClip]:
        """Clips of one segment into out, uint32 [B, T, S, S], decoded in one pass; the same bits as one by one."""
        self.notes.begin(items[0])
        index = items[0] % len(self.segments)
        segment = self.segments[index]
        draws = [self.draw(item) for item in items]
        starts_sec = [self._start_sec(segment, draw, 0) for draw in draws]
        try:
            plans = self._gather(index, list(zip(starts_sec, draws, out, strict=True)))
        except VideoError:
            # One of them is bad: read one by one to find out which, under the policy.
            return [self.read_clip(item, out[row]) for row, item in enumerate(items)]
        where = f"{self.segments.path} row {segment.row}"
        return [
            ReadClip(item, index, f"{segment.filename} at {start_sec:.3f} s ({where})", plan)
            for item, start_sec, plan in zip(items, starts_sec, plans, strict=True)
        ]

    def describe(self, item: int) -> str:
        """File and table row of an item, for messages."""
        segment = self.segments[item % len(self.segments)]
        return f"{segment.filename} ({self.segments.path} row {segment.row})"

    def file_of(self, item: int) -> int:
        """Number of an item's file."""
        return int(self.segments.file_index[item % len(self.segments)])

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip's pixels."""
        side = self.clips.crop_px * (1 if self.resized else 2)
        return self.clips.length_frames * side * side * 4

    def draw(self, item: int) -> Draw:
        """The random choices of a clip: item i is clip number i // segments of segment i % segments."""
        if self.training:
            return draw_training(self.clips, seed=self.seed, epoch=self.epoch, item=item)
        return draw_validation(self.clips, seed=self.seed, item=item, clip_number=item // len(self.segments))

    def _start_sec(self, segment: Segment, draw: Draw, attempt: int) -> float:
        return start_of(draw, attempt, segment.start_sec, segment.end_sec, self.clips)

    def _gather(self, index: int, clips: list[tuple[float, Draw, np.ndarray]]) -> list[PixelPlan]:
        """Gather clips of one segment, each (start_sec, draw, out); returns how to blend their pixels."""
        segment = self.segments[index]
        if self.notes.crashed[self.segments.file_index[index]]:
            raise VideoError(f"a decoder crashed on {segment.filename}: standardise it, or leave it out of the table")
        with self.videos.reading(segment.filename) as path:
            plans: list[PixelPlan] = []
            indices: list[SourceIndex] = []
            size: tuple[int, ...] = ()
            starts_sec = [start_sec for start_sec, _, _ in clips]
            for frame in self._frames(path, starts_sec, segment.file_fps):
                if not plans:
                    size = (*frame.pixels.shape, frame.width)
                    plans = [self._plan(path, frame.pixels.shape[0], frame.width, draw) for _, draw, _ in clips]
                    indices = [self._source_index(plan, frame.pixels.shape[1]) for plan in plans]
                if size != (*frame.pixels.shape, frame.width):
                    raise VideoError(f"{path} changes its frame size: standardise it first")
                gather(frame.pixels, indices[frame.clip], clips[frame.clip][2][frame.k])
            return plans

    def _frames(self, path: Path, starts_sec: list[float], file_fps: float | None) -> Iterator[WantedFrame]:
        """The clips' frames; any exception a library raises for a damaged file becomes a VideoError here."""
        if self._reader is None:
            self._reader = ClipReader(
                length_frames=self.clips.length_frames,
                rate_fps=self.clips.rate_fps,
                max_open=MAX_OPEN_COPIES if self.resized else MAX_OPEN_VIDEOS,
            )
        try:
            yield from self._reader.frames(path, starts_sec, file_fps=file_fps)
        except (TspError, MemoryError):
            raise
        except Exception as error:
            self._reader.close()
            raise VideoError(f"{path} cannot be decoded: {type(error).__name__}: {error}") from error

    def _source_index(self, plan: PixelPlan, stride: int) -> SourceIndex:
        return plan.crop_index() if self.resized else plan.source_index(stride)

    def _plan(self, path: Path, height_px: int, width_px: int, draw: Draw) -> PixelPlan:
        clips = self.clips
        if not self.resized:
            return plan_pixels(
                height_px,
                width_px,
                resize_height_px=clips.resize_height_px,
                resize_width_px=clips.resize_width_px,
                crop_px=clips.crop_px,
                crop=draw.crop,
            )
        widths = (clips.resize_width_px, stored_width(clips.resize_width_px))
        if height_px != clips.resize_height_px or width_px not in widths:
            raise DataError(
                f"the training copy {path} has frames of {height_px}x{width_px}, this run resizes to "
                f"{clips.resize_height_px}x{clips.resize_width_px}: make it again with 'tspctl data standardize "
                f"--training-copy', or train without data.training_copy"
            )
        return plan_resized(resize_width_px=clips.resize_width_px, crop_px=clips.crop_px, crop=draw.crop)


@dataclass
class ReadClip:
    """The outcome of reading one clip; its pixels are where they were gathered."""

    item: int
    segment_index: int
    name: str = ""
    plan: PixelPlan | None = None
    """None for a clip that could not be decoded."""
    problems: list[Problem] = field(default_factory=list)
