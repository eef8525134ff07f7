"""What a video file really holds, counted from its packets and frames rather than read off its header."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame

from tsp.data.video.errors import VideoError
from tsp.data.video.open_video import VideoSource

HEAD_FRAMES = 16
"""How many frames at the beginning are decoded where not all are."""
TAIL_SEC = 1.0
"""How much of the end is decoded where not all is."""
_RATE_TOLERANCE = 0.05
"""Frame distances that differ by less than this share of one count as even: containers round times."""


@dataclass(frozen=True, slots=True)
class VideoReport:
    """A video file as it is."""

    codec: str
    width: int
    height: int
    num_frames: int
    """Frames that are shown."""
    fps: float
    """Mean frame rate."""
    start_sec: float
    """When the first frame is shown."""
    constant_rate: bool
    rotation_degrees: int
    """How a player turns the picture; training does not."""
    has_audio: bool
    faults: tuple[str, ...] = field(default=())
    """What is wrong inside the file, in words."""

    @property
    def duration_sec(self) -> float:
        """``num_frames / fps``, as the published tables have it."""
        return self.num_frames / self.fps


def inspect_video(path: str | Path, *, decode_all: bool = False) -> VideoReport:
    """Read all packets and decode the beginning and the end, or everything.

    Raises: VideoError if the file cannot be opened, has no video, or not one frame of it can be decoded.
    """
    source = VideoSource(path)
    try:
        return _inspect(source, decode_all)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    finally:
        source.close()


def _inspect(source: VideoSource, decode_all: bool) -> VideoReport:
    faults: list[str] = []
    times = _shown_times(source, faults)
    if not times:
        raise VideoError(f"{source.path} holds no video frames")
    claimed = source.stream.frames
    if claimed > len(times):
        faults.append(f"its header claims {claimed} frames, {len(times)} are there: the file is cut short")
    seconds_per_unit = float(source.time_base)
    steps = [late - early for early, late in itertools.pairwise(times)]
    fps = float(source.fps or 0)
    constant = bool(steps) and max(steps) - min(steps) <= max(2, _RATE_TOLERANCE * min(steps))
    if steps and (not constant or fps <= 0):
        fps = len(steps) / ((times[-1] - times[0]) * seconds_per_unit)
    if fps <= 0:
        raise VideoError(f"{source.path} does not say its frame rate")
    has_audio = bool(source.container.streams.audio)
    codec, width, height = source.codec.name, source.codec.width, source.codec.height
    first = _decode(source, times, decode_all, faults)
    if first is None:
        raise VideoError(f"{source.path}: not one frame of it can be decoded")
    return VideoReport(
        codec=codec,
        width=width,
        height=height,
        num_frames=len(times),
        fps=fps,
        start_sec=times[0] * seconds_per_unit,
        constant_rate=constant or len(times) == 1,
        rotation_degrees=first.rotation % 360,
        has_audio=has_audio,
        faults=tuple(faults),
    )


def _shown_times(source: VideoSource, faults: list[str]) -> list[int]:
    """Presentation times of all frames, rising, in units of the stream; a packet is one frame."""
    times: list[int] = []
    num_untimed = 0
    try:
        for packet in source.all_packets():
            if packet.size and not packet.is_discard:
                shown = packet.pts if packet.pts is not None else packet.dts
                num_untimed += shown is None
                times += [] if shown is None else [shown]
    except av.error.FFmpegError as error:
        faults.append(f"reading it fails after {len(times)} frames: {error.strerror}")
    if num_untimed:
        faults.append(f"{num_untimed} of its frames carry no time: standardise it first")
    return sorted(set(times))


def _decode(source: VideoSource, times: list[int], decode_all: bool, faults: list[str]) -> VideoFrame | None:
    """Decode everything, or the beginning and the end; note what fails. Returns the first frame."""
    seconds_per_unit = float(source.time_base)
    tail_from = max(times[0], times[-1] - round(TAIL_SEC / seconds_per_unit))
    first: VideoFrame | None = None
    for part in ("all",) if decode_all else ("head", "tail"):
        packets = source.packets_before(tail_from) if part == "tail" else source.all_packets()
        num_frames, num_damaged, last = 0, 0, None
        try:
            for frame in _frames(source, packets):
                first = first or frame
                num_frames += 1
                num_damaged += frame.is_corrupt
                last = frame.pts if last is None else max(last, frame.pts or last)
                if part == "head" and num_frames == HEAD_FRAMES:
                    break
        except av.error.FFmpegError as error:
            at_sec = (times[0] if last is None else last) * seconds_per_unit
            faults.append(
                f"decoding fails after {at_sec:.2f} s of {times[-1] * seconds_per_unit:.2f}: {error.strerror}"
            )
            break
        if num_damaged:
            faults.append(f"{num_damaged} of the {num_frames} decoded frames are damaged")
        if part != "head" and (last is None or last < times[-1]):
            end = "nowhere" if last is None else f"at {last * seconds_per_unit:.2f} s"
            faults.append(f"decoding ends {end}, the last frame is due at {times[-1] * seconds_per_unit:.2f} s")
        if decode_all and num_frames < len(times):
            faults.append(f"{len(times)} frames are announced, {num_frames} could be decoded")
    return first


def _frames(source: VideoSource, packets: Iterator[Packet[Any]]) -> Iterator[VideoFrame]:
    source.codec.skip_frame = "DEFAULT"
    for packet in packets:
        yield from source.codec.decode(packet)
