"""Turns decoded frames into features: clips on the device, batches across videos, one result per video.

A frame is resized, cropped and normalised once, however many clips share it. On a GPU this happens on a separate stream
while the encoder computes; a video's frames stay there, and its clips are passed on when a batch is full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tsp.data.tables import VideoFacts
from tsp.data.transforms import blend
from tsp.errors import DataError
from tsp.extract.decode import Chunk, VideoEnd
from tsp.extract.encoder import Encoder
from tsp.extract.pool import Event, VideoFailure
from tsp.model.side_stream import SideStream


class Collector(Protocol):
    """Collects the features of one video."""

    def add(self, features_NF: np.ndarray) -> None:
        """The features of its next clips, float32."""

    def result(self) -> np.ndarray:
        """What is kept of them, float32."""


@dataclass(frozen=True, slots=True)
class VideoResult:
    """The result of one video."""

    video: VideoFacts
    array: np.ndarray | None
    """None if it could not be decoded."""
    num_clips: int = 0
    num_padded: int = 0
    """Clips that end with the video's last frame repeated."""
    message: str = ""
    """Why it could not be decoded."""


@dataclass
class FrameWindow:
    """The last frames of one video that later clips may need, on the device."""

    device: torch.device
    frames: Tensor | None = None
    """float32 [N, H, W, 3], normalised."""
    base: int = 0
    """Position of the first of them among all frames of the video."""

    def clips(self, chunk: Chunk) -> Tensor:
        """The clips that a chunk completes, float32 [clips, 3, T, H, W] in channels-last-3d memory order."""
        new = normalised(chunk, self.device)
        frames = new if self.frames is None else torch.cat([self.frames, new])
        rows = sent(chunk.rows - self.base, self.device)
        self.frames, self.base = frames[chunk.oldest_position - self.base :].clone(), chunk.oldest_position
        return frames[rows].permute(0, 4, 1, 2, 3)


def normalised(chunk: Chunk, device: torch.device) -> Tensor:
    """The frames of a chunk as the validation transform makes them, float32 [N, H, W, 3] on the device."""
    pixels = sent(chunk.pixels, device)[None]
    weights = [sent(weight, device)[None] for weight in (chunk.row_weights, chunk.column_weights)]
    return blend(pixels, *weights).permute(0, 2, 3, 4, 1)[0]


def sent(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device; from page-locked memory, so that the host does not wait for what is queued there."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


@dataclass
class _OpenVideo:
    """A video that is not finished."""

    video: VideoFacts
    collector: Collector
    window: FrameWindow
    end: VideoEnd | None = None
    failed: bool = False
    num_done: int = 0


@dataclass
class _Batch:
    """Clips of one or more videos, and their features on their way from the device."""

    parts: list[tuple[_OpenVideo, int]]
    """Whose clips, and how many."""
    clips: Tensor
    features: Tensor
    """float32, page-locked on the host where they come from a GPU."""
    arrived: torch.cuda.Event | None


@dataclass
class FeatureStream:
    """Runs the encoder over decoded videos."""

    encoder: Encoder
    batch: int
    """Clips per forward pass."""
    collect: Callable[[], Collector]
    num_clips: int = 0
    """Clips encoded so far."""
    side: SideStream = field(init=False)
    """Where frames are prepared."""
    _open: dict[str, _OpenVideo] = field(default_factory=dict)
    _queue: deque[tuple[_OpenVideo, Tensor]] = field(default_factory=deque)
    _under_way: deque[_Batch] = field(default_factory=deque)
    _calibrated: bool = False

    def __post_init__(self) -> None:
        self.side = SideStream(self.encoder.device)

    def results(self, events: Iterable[Event]) -> Iterator[VideoResult]:
        """One result per video, as they are done.

        Raises: DataError if the encoder gives features that are not finite.
        """
        # While the device works on one batch, the host prepares the next.
        depth = 1 if self.encoder.device.type == "cuda" else 0
        for video, event in events:
            yield from self._take(video, event)
            while self._num_queued >= self.batch:
                self._launch()
            while len(self._under_way) > depth:
                yield from self._land()
        while self._queue:
            self._launch()
        while self._under_way:
            yield from self._land()

    @property
    def _num_queued(self) -> int:
        return sum(len(clips) for _, clips in self._queue)

    def _take(self, video: VideoFacts, event: Chunk | VideoEnd | VideoFailure) -> Iterator[VideoResult]:
        state = self._open.setdefault(video.name, _OpenVideo(video, self.collect(), FrameWindow(self.encoder.device)))
        if isinstance(event, VideoFailure):
            state.failed = True
            del self._open[video.name]
            yield VideoResult(video, None, message=event.message)
        elif isinstance(event, VideoEnd):
            state.end = event
            yield from self._close_if_done(state)
        else:
            with self.side():
                clips = state.window.clips(event)
            if not self._calibrated and len(clips):
                self.side.hand_over(clips)
                self.encoder.calibrate(clips)
                self._calibrated = True
            if len(clips):
                with self.side():
                    self._queue.append((state, clips.to(self.encoder.dtype)))

    def _launch(self) -> None:
        """Start the next full batch, or the remaining clips."""
        parts: list[tuple[_OpenVideo, Tensor]] = []
        room = self.batch
        while room and self._queue:
            state, clips = self._queue.popleft()
            if len(clips) > room:
                self._queue.appendleft((state, clips[room:]))
                clips = clips[:room]
            parts.append((state, clips))
            room -= len(clips)
        self.side.hand_over(*(clips for _, clips in parts))
        clips = torch.cat([clips for _, clips in parts])
        features = self.encoder(clips).to("cpu", non_blocking=True)
        arrived = None
        if self.encoder.device.type == "cuda":
            arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            arrived.record(torch.cuda.current_stream(self.encoder.device))
        self._under_way.append(_Batch([(state, len(part)) for state, part in parts], clips, features, arrived))

    def _land(self) -> Iterator[VideoResult]:
        """Distribute the oldest batch's features to their videos."""
        batch = self._under_way.popleft()
        if batch.arrived is not None:
            batch.arrived.synchronize()
        features = self._finite(batch).numpy()
        begin = 0
        for state, num_clips in batch.parts:
            state.collector.add(features[begin : begin + num_clips])
            state.num_done += num_clips
            self.num_clips += num_clips
            begin += num_clips
            yield from self._close_if_done(state)

    def _finite(self, batch: _Batch) -> Tensor:
        if bool(batch.features.isfinite().all()):
            return batch.features
        features = self.encoder.exact(batch.clips).cpu()
        if not bool(features.isfinite().all()):
            videos = ", ".join(state.video.name for state, _ in batch.parts)
            raise DataError(
                f"the encoder produces NaN or infinite features for {videos}: its checkpoint is from a run that "
                "diverged"
            )
        return features

    def _close_if_done(self, state: _OpenVideo) -> Iterator[VideoResult]:
        if state.failed or state.end is None or state.num_done < state.end.num_clips:
            return
        del self._open[state.video.name]
        yield VideoResult(state.video, state.collector.result(), state.end.num_clips, state.end.num_padded)
