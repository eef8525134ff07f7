"""Batches of clips as a data worker reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsp.data.batch import ClipBatch, Problem
from tsp.data.order import Draw, draw_training, draw_validation, start_of
from tsp.data.place import VideoPlace
from tsp.data.segments import UNLABELLED, Segment
from tsp.data.shared import SharedSegments, empty_batch
from tsp.data.transforms import PixelPlan, gather, plan_pixels
from tsp.data.video import ClipReader, VideoError
from tsp.errors import TspError
from tsp.run.config import BadClipPolicy, ClipConfig


class FailedBatch:
    """An error on its way from a worker to the training process, its message as it was."""

    def __init__(self, error: TspError) -> None:
        self.error = error


class ClipDataset(Dataset[ClipBatch | FailedBatch]):
    """Reads whole batches: ``dataset[items]`` are the clips of those numbers, as one ClipBatch."""

    def __init__(
        self,
        *,
        segments: SharedSegments,
        gvf: Tensor | None,
        videos: VideoPlace,
        clips: ClipConfig,
        seed: int,
        epoch: int,
        training: bool,
        bad_clips: BadClipPolicy = "resample",
    ) -> None:
        """gvf, float32 [F, 512] by file, in shared memory."""
        self._segments = segments
        self._gvf = gvf
        self._videos = videos
        self._clips = clips
        self._seed = seed
        self._epoch = epoch
        self._training = training
        self._bad_clips = bad_clips
        self._reader: ClipReader | None = None

    def __len__(self) -> int:
        return len(self._segments) * self._clips.per_segment

    def __getitem__(self, items: np.ndarray) -> ClipBatch | FailedBatch:
        """The clips of these numbers.

        An error that ends the run is returned, not raised: torch would bury its message in a worker's traceback.
        """
        try:
            return self._read_batch([int(item) for item in items])
        except TspError as error:
            return FailedBatch(error)

    def _read_batch(self, items: list[int]) -> ClipBatch:
        side = 2 * self._clips.crop_px
        pixels = empty_batch(len(items), self._clips.length_frames, side, side, 4)
        out = pixels.numpy().view(np.uint32)[..., 0]
        clips = [self._read_clip(item, out[row]) for row, item in enumerate(items)]
        good = [row for row, clip in enumerate(clips) if clip.plan is not None]
        for row, clip in enumerate(clips):
            if clip.plan is None:
                out[row] = out[good[0]] if good else 0
                clip.plan = clips[good[0]].plan if good else None
        return self._assemble(pixels, clips, good)

    def _assemble(self, pixels: Tensor, clips: list[_Clip], good: list[int]) -> ClipBatch:
        no_weights = np.zeros(self._clips.crop_px, np.float32)
        row_weights = [no_weights if clip.plan is None else clip.plan.row_weights for clip in clips]
        column_weights = [no_weights if clip.plan is None else clip.plan.column_weights for clip in clips]
        is_good = torch.zeros(len(clips), dtype=torch.bool)
        is_good[good] = True
        segments = torch.tensor([clip.segment_index for clip in clips])
        targets = self._segments.labels[segments]
        targets[~is_good] = UNLABELLED
        return ClipBatch(
            pixels=pixels,
            row_weights=torch.from_numpy(np.stack(row_weights)),
            column_weights=torch.from_numpy(np.stack(column_weights)),
            targets=targets,
            gvf=None if self._gvf is None else self._gvf[self._segments.file_index[segments].long()],
            items=torch.where(is_good, torch.tensor([clip.item for clip in clips]), -1),
            names=tuple(clip.name for clip in clips),
            problems=tuple(problem for clip in clips for problem in clip.problems),
            num_bad=sum(bool(clip.problems) for clip in clips),
        )

    def _read_clip(self, item: int, out: np.ndarray) -> _Clip:
        """One clip into out, uint32 [T, 2C, 2C], under the policy for clips that cannot be decoded."""
        index = item % len(self._segments)
        segment, draw = self._segments[index], self.draw(item)
        clip = _Clip(item, index)
        for attempt in range(len(draw.shares) if self._bad_clips == "resample" else 1):
            start_sec = start_of(draw, attempt, segment.start_sec, segment.end_sec, self._clips)
            clip.name = f"{segment.filename} at {start_sec:.3f} s ({self._segments.path} row {segment.row})"
            try:
                clip.plan = self._read(segment, start_sec, draw, out)
                break
            except VideoError as error:
                message = f"{error} ({self._segments.path} row {segment.row})"
                if self._bad_clips == "fail":
                    raise VideoError(message) from error
                clip.problems.append(Problem(segment.filename, message))
        return clip

    def draw(self, item: int) -> Draw:
        """What chance decides about a clip: item i is clip number i // segments of segment i % segments."""
        if self._training:
            return draw_training(self._clips, seed=self._seed, epoch=self._epoch, item=item)
        return draw_validation(self._clips, seed=self._seed, item=item, clip_number=item // len(self._segments))

    def _read(self, segment: Segment, start_sec: float, draw: Draw, out: np.ndarray) -> PixelPlan:
        """Gather one clip into out and say how its pixels are to be blended."""
        if self._reader is None:
            self._reader = ClipReader(length_frames=self._clips.length_frames, rate_fps=self._clips.rate_fps)
        path = self._videos.open_path(segment.filename)
        plan = index = size = None
        for frame in self._reader.frames(path, [start_sec], file_fps=segment.file_fps):
            if plan is None or index is None:
                size = (*frame.pixels.shape, frame.width)
                plan = self._plan(frame.pixels.shape[0], frame.width, draw)
                index = plan.source_index(frame.pixels.shape[1])
            if size != (*frame.pixels.shape, frame.width):
                raise VideoError(f"{path} changes its frame size near {start_sec:.3f} s: standardise it first")
            gather(frame.pixels, index, out[frame.k])
        if plan is None:
            raise VideoError(f"{path} has no frame near {start_sec:.3f} s")
        return plan

    def _plan(self, height_px: int, width_px: int, draw: Draw) -> PixelPlan:
        return plan_pixels(
            height_px,
            width_px,
            resize_height_px=self._clips.resize_height_px,
            resize_width_px=self._clips.resize_width_px,
            crop_px=self._clips.crop_px,
            crop=draw.crop,
        )


@dataclass
class _Clip:
    """What became of one clip of a batch."""

    item: int
    segment_index: int
    name: str = ""
    plan: PixelPlan | None = None
    problems: list[Problem] = field(default_factory=list)
