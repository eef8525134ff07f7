"""What a video file really holds, counted from its packets and frames rather than read off its header."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from tsp.data.video.choose_stream import video_streams
from tsp.data.video.claims import missing_end, unheeded
from tsp.data.video.colour import why_not_rgb
from tsp.data.video.display_matrix import Turn, turn_of
from tsp.data.video.errors import VideoError, reading, reason_of
from tsp.data.video.open_input import open_input
from tsp.data.video.open_video import UnsureError, VideoSource
from tsp.data.video.timeline import is_even, pauses
from tsp.wording import counted_is

HEAD_FRAMES = 16
"""How many frames at the beginning are decoded where not all are."""
TAIL_SEC = 1.0
"""How much of the end is decoded where not all is."""
STILL_SEC = 10.0
"""A frame that is shown for longer than this is worth a remark."""
_CURE = "run 'tspctl data standardize'"
_FALSE_KEYS = "its container marks frames as key frames that are not, so clips are decoded from the file's beginning"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """A video file as it is. Times: 0 is where a player shows 0."""

    codec: str
    width: int
    height: int
    num_frames: int
    """Frames that are shown."""
    fps: float
    """Frame rate by the frames' times: that of nearly all of them, or their mean."""
    start_sec: float = 0.0
    """When the first frame is shown; later than 0 where the sound begins earlier."""
    duration_sec: float
    """When the last frame has been shown for one frame's time."""
    off_rate_sec: float = 0.0
    """The largest difference between a frame's time and the time by the rate; small if the rate is constant."""
    constant_rate: bool = True
    turn: Turn = "upright"
    """How a player turns and mirrors the picture; training does not."""
    has_audio: bool = False
    stream_index: int = 0
    """Which stream of the file is read."""
    num_video_streams: int = 1
    """How many there are to choose from, attached pictures not counted."""
    num_missing: int = 0
    """Frames that seem to be missing, from pauses in an otherwise even rate."""
    first_missing_sec: float = 0.0
    longest_still_sec: float = 0.0
    """How long the frame is shown that is shown for longest."""
    changes_size: bool = False
    """Whether a decoded frame had another size than the first."""
    notes: tuple[str, ...] = ()
    """Descriptions of corrections to the file's times."""
    unheeded: tuple[str, ...] = ()
    """Descriptions of what the container contains or requests that is not applied."""
    faults: tuple[str, ...] = ()
    """Descriptions of damage: parts of the file cannot be read."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on a readable file, with what to do."""
        found = [f"{note}: {_CURE}" for note in self.notes]
        if self.num_video_streams > 1:
            found.append(f"it contains {self.num_video_streams} video streams; stream {self.stream_index} is read")
        if self.start_sec > 0.5 / self.fps:
            found.append(f"its video begins {self.start_sec:.3f} s after its audio: {_CURE}")
        if self.num_missing:
            found.append(
                f"{_frames_seem(self.num_missing)} to be missing, the first at {self.first_missing_sec:.3f} s, so "
                f"clips there are not evenly spaced: {_CURE}"
            )
        elif not self.constant_rate:
            found.append(
                f"its frame rate varies (mean {self.fps:.3f} fps, frames up to {self.off_rate_sec:.3f} s off an "
                f"even rate), so clips are not evenly spaced: {_CURE}"
            )
        if self.longest_still_sec > STILL_SEC:
            found.append(f"its picture does not change for {self.longest_still_sec:.1f} s: is there a gap?")
        if self.turn != "upright":
            found.append(f"players rotate or flip its picture ({self.turn}), but training does not: {_CURE}")
        if self.changes_size:
            found.append(f"its frame size changes: {_CURE}")
        if self.num_frames == 1:
            found.append("it contains a single frame")
        found += self.unheeded
        return tuple(found)


def _frames_seem(number: int) -> str:
    return "1 frame seems" if number == 1 else f"{number} frames seem"


def inspect_video(path: str | Path, *, decode_all: bool = False) -> VideoReport:
    """Read all packets and decode the beginning and the end, or everything.

    Raises: VideoError if the file cannot be opened, has no video or no times, or not one frame of it can be decoded.
    """
    source = VideoSource(path, whole=True)
    try:
        with reading(path):
            return _inspect(source, decode_all)
    finally:
        source.close()


def _inspect(source: VideoSource, decode_all: bool) -> VideoReport:
    scan, fps = source.timeline.scan, source.fps
    assert scan is not None
    if not fps:
        raise VideoError(f"{source.path} does not state its frame rate, and has only one frame")
    lost = missing_end(source.path, source.container, source.stream, scan, fps)
    faults = [fault for fault in (scan.fault, lost) if fault]
    about: dict[str, Any] = {
        "codec": source.codec.name,
        "width": source.codec.width,
        "height": source.codec.height,
        "has_audio": bool(source.container.streams.audio),
        "stream_index": source.stream.index,
        "num_video_streams": len(video_streams(source.container)),
    }
    decoded = _Decoded()
    for times in ([scan.shown],) if decode_all else ([scan.shown[:HEAD_FRAMES]], [_tail(scan.shown, source.time_base)]):
        if not _decode(source, times[0], scan.shown, decoded, faults):
            break
    if decoded.first is None:
        raise VideoError(f"{source.path}: not one frame of it can be decoded")
    faults += [why] if (why := why_not_rgb(decoded.first)) else []
    shown = scan.shown[scan.shown >= decoded.first_pts]
    seconds_per_unit = float(source.time_base)
    steps, missing = np.diff(shown), pauses(shown, source.time_base)
    return VideoReport(
        **about,
        num_frames=len(shown),
        fps=float(fps),
        start_sec=float(shown[0]) * seconds_per_unit,
        duration_sec=_duration_sec(shown, source.time_base, fps),
        off_rate_sec=_off_rate_sec(shown, source.time_base, fps),
        constant_rate=bool(is_even(steps, source.time_base).all()) if len(steps) else True,
        turn=turn_of(decoded.first),
        num_missing=sum(pause.num_missing for pause in missing),
        first_missing_sec=missing[0].begin_sec if missing else 0.0,
        longest_still_sec=float(steps.max(initial=0)) * seconds_per_unit,
        changes_size=len(decoded.sizes) > 1,
        notes=(*source.timeline.notes, *([_FALSE_KEYS] if source.key_marks_lie else []), *_about_late(decoded, source)),
        unheeded=unheeded(source.path, source.container, source.stream, scan),
        faults=tuple(faults),
    )


def _tail(shown: np.ndarray, time_base: Fraction) -> np.ndarray:
    tail: np.ndarray = shown[shown >= shown[-1] - round(TAIL_SEC / time_base)]
    return tail


def _duration_sec(shown: np.ndarray, time_base: Fraction, fps: Fraction) -> float:
    """One frame's time after the last one; exactly frames / fps for a constant rate from 0, as the tables have it."""
    even = float(len(shown) / fps)
    steps = np.diff(shown)
    last = Fraction(float(np.median(steps))) * time_base if len(steps) else 1 / fps
    end = float(int(shown[-1]) * time_base + last)
    return even if abs(even - end) * fps < 0.1 else end


def _off_rate_sec(shown: np.ndarray, time_base: Fraction, fps: Fraction) -> float:
    even = np.arange(len(shown)) / float(fps)
    off = (shown - shown[0]) * float(time_base) - even
    return float((off.max() - off.min()) / 2)


def _about_late(decoded: _Decoded, source: VideoSource) -> list[str]:
    if not decoded.late:
        return []
    first_sec = float(min(decoded.late) * source.time_base)
    return [
        f"the stored times of {counted_is(len(decoded.late), 'frame')} not in the order in which the decoder puts the "
        f"frames out, the first at {first_sec:.3f} s"
    ]


class _Decoded:
    """What decoding showed."""

    def __init__(self) -> None:
        self.first: VideoFrame | None = None
        self.first_pts = 0
        self.sizes: set[tuple[int, int]] = set()
        self.late: set[int] = set()
        """Times of frames that are stored with a time before that of the frame before them."""

    def add(self, frame: VideoFrame, last: int | None) -> None:
        """One more frame. Args: last, the latest time of those before it, if they were decoded without a break."""
        if last is not None and frame.pts is not None and frame.pts < last:
            self.late.add(frame.pts)
        if self.first is None and frame.pts is not None:
            self.first, self.first_pts = frame, frame.pts
        self.sizes.add((frame.width, frame.height))


def _decode(
    source: VideoSource,
    times: np.ndarray,
    shown: np.ndarray,
    decoded: _Decoded,
    faults: list[str],
    *,
    from_beginning: bool = False,
) -> bool:
    """Decode the frames of these times and record failures. False if decoding cannot continue."""
    seconds_per_unit = float(source.time_base)
    begin, end = int(times[0]), int(times[-1])
    from_beginning = from_beginning or begin == shown[0] or source.key_marks_lie
    packets = source.all_packets() if from_beginning else source.packets_before(begin)
    found: set[int] = set()
    num_damaged, last, latest = 0, int(shown[0]), None
    try:
        for frame in _frames(source, packets):
            decoded.add(frame, latest)
            if frame.pts is not None:
                last, latest = max(last, frame.pts), max(latest or frame.pts, frame.pts)
            if frame.pts is not None and begin <= frame.pts <= end:
                found.add(frame.pts)
                num_damaged += frame.is_corrupt
            if len(found) == len(times):
                break
    except (UnsureError, av.error.FFmpegError) as error:
        if not from_beginning:
            return _decode(source, times, shown, decoded, faults, from_beginning=True)
        at_sec = last * seconds_per_unit
        faults.append(f"decoding fails after {at_sec:.2f} s of {shown[-1] * seconds_per_unit:.2f}: {reason_of(error)}")
        return False
    if (num_damaged or len(found) < len(times)) and not from_beginning:
        return _decode(source, times, shown, decoded, faults, from_beginning=True)
    if num_damaged:
        faults.append(f"{num_damaged} of the {len(found)} decoded frames are damaged")
    # Frames before the first that can be decoded are of a picture group whose beginning was cut away.
    missing = [time for time in times if time not in found and time > decoded.first_pts]
    if missing:
        faults.append(f"{len(missing)} of its frames from {missing[0] * seconds_per_unit:.2f} s on cannot be decoded")
    return True


def _frames(source: VideoSource, packets: Iterator[Packet[Any]]) -> Iterator[VideoFrame]:
    source.codec.skip_frame = "DEFAULT"
    for packet in packets:
        yield from source.decode(packet)


def comment_of(path: str | Path) -> str:
    """The comment in a video file's metadata; empty where there is none, or no video."""
    try:
        with open_input(path) as container:
            return container.metadata.get("comment", "")
    except Exception:  # as in ``reading``: whatever a library raises about a damaged file
        return ""
