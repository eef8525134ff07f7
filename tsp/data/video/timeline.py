"""When each frame of a file is shown: determined once per file, here, for all other code.

Time 0 is where a player shows 0: the container's start, the earliest start of its streams. So a transport stream begins
at 0 whatever its clock shows, and a picture that begins after the sound stays late. A frame is on screen from its time
until the next frame's time; the last frame for one frame's duration.

Containers differ in what they store, so there are two kinds of files:

- **MP4 and MOV with one index** store a time for every frame and list all of them in advance. Their packets' times are
used while reading (minus the container's start), and nothing is read ahead except the first packet of a stream whose
decoder reorders: it shows whether presentation times are stored at all. FFmpeg applies edit lists.
- **All others** are read through once, packet by packet, without decoding (``packet_scan``). Jumps and restarts of
  clocks are removed there, as the ``ffmpeg`` program does. Where the container stores no presentation time for every
  frame (AVI, WMV, Matroska that carries AVI's headers) the frames are decoded once, to learn the decoder's order, and
  get the stored times in that order.

In both cases callers get packets with true times: ``pts`` is the frame's time, rising in the order the frames are
shown, and ``dts`` is a lower bound of the ``pts`` of all later packets. See docs/time.md.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from tsp.data.video.errors import VideoError
from tsp.data.video.h264_fields import FieldPairs
from tsp.data.video.packet_scan import Scan, contradicts_decoder, scan_packets

US_PER_SEC = 1_000_000
CACHED_PACKETS = 4_000_000
"""Packets of scanned files that a process remembers: 33 bytes each."""
_RATE_TOLERANCE = 1e-4
_ROUNDING_SEC = 0.002
"""How far containers that count in milliseconds move two times against each other."""
_JITTER = 0.05
_MOSTLY = 0.95
_PEEKED_PACKETS = 16
_MAX_DENOMINATOR = 100_000


@dataclass(frozen=True, slots=True)
class Timeline:
    """The times of one file, in units of its video stream."""

    origin: int
    """The container's own time at time 0."""
    time_base: Fraction
    """Seconds per unit."""
    fps: Fraction | None
    """Mean frame rate, from the frames' times; None for a single frame that does not say how long it is shown."""
    scan: Scan | None = None
    """Every packet; None where packets' own times are right, as they are in an ordinary MP4."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Descriptions of corrections to the times."""
        return self.scan.notes if self.scan else ()


def establish(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    *,
    whole: bool = False,
    untimed: bool = False,
    reordered: bool = False,
) -> Timeline:
    """The timeline of an open file.

    Args: whole, read all packets even where nothing is in doubt; untimed, give the frames of an elementary stream
        times at the rate it says; reordered, correct times that do not rise in the decoder's order.
    Raises: VideoError if the file has no times, or times that cannot be made to rise.
    """
    if stream.time_base is None:
        raise VideoError(f"{path} does not state the unit of its times")
    origin = origin_of(container, stream)
    if not whole and _lists_every_frame(container, stream) and not _is_doubtful(container, stream):
        first, last = stream.index_entries[0].timestamp, stream.index_entries[-1].timestamp
        fps = frame_rate(first, last, len(stream.index_entries), stream.time_base, _claimed_rates(stream))
        if _is_steady(fps, stream):
            return Timeline(origin, stream.time_base, fps)
    scan = _SCANS.get(path, stream.index, counted=whole, untimed=untimed, reordered=reordered)
    shown = scan.shown
    if not len(shown):
        raise VideoError(f"{path} contains no video frames")
    fps = rate_of_times(shown, stream.time_base, _claimed_rates(stream))
    return Timeline(origin, stream.time_base, fps, scan)


def origin_of(container: InputContainer, stream: VideoStream) -> int:
    """The stream's time at the container's start, rounded as ffmpeg rounds it."""
    assert stream.time_base is not None
    return round(Fraction(container.start_time or 0, US_PER_SEC) / stream.time_base)


def rate_of_times(shown: np.ndarray, time_base: Fraction, claimed: Iterable[Fraction | None]) -> Fraction | None:
    """Frame rate of rising times: where nearly all frames last equally long, that of those, else the mean."""
    steps = np.diff(shown)
    if not len(steps):
        return frame_rate(0, 0, 1, time_base, claimed)
    even = steps[is_even(steps, time_base)]
    if len(even) < _MOSTLY * len(steps):
        even = steps
    return frame_rate(0, int(even.sum()), len(even) + 1, time_base, claimed)


def is_even(steps: np.ndarray, time_base: Fraction) -> np.ndarray:
    """Which distances of frames are the usual one, up to the rounding of times; bool, as steps."""
    usual = float(np.median(steps))
    rounding = min(_ROUNDING_SEC / float(time_base), 2)
    return np.abs(steps - usual) <= max(rounding, _JITTER * usual)


class Pause(NamedTuple):
    """A frame that stays for longer than the others, at an otherwise even rate."""

    begin_sec: float
    """When the first missing frame would have been shown."""
    end_sec: float
    num_missing: int


def pauses(shown: np.ndarray, time_base: Fraction) -> list[Pause]:
    """Where frames seem to be missing; none where the rate varies anyway."""
    steps = np.diff(shown)
    if not len(steps) or is_even(steps, time_base).mean() < _MOSTLY:
        return []
    usual, seconds_per_unit = float(np.median(steps)), float(time_base)
    return [
        Pause(
            (float(shown[number]) + usual) * seconds_per_unit,
            float(shown[number + 1]) * seconds_per_unit,
            round(float(steps[number]) / usual) - 1,
        )
        for number in np.flatnonzero(steps > 1.5 * usual)
        if not is_even(steps, time_base)[number]
    ]


def frame_rate(
    first: int, last: int, num_frames: int, time_base: Fraction, claimed: Iterable[Fraction | None]
) -> Fraction | None:
    """Mean rate of frames that are shown from ``first`` to ``last``, in units of time_base.

    A rate that the container claims is taken where it agrees up to the rounding of times: 30000/1001, not 29.9702.
    """
    rates = [rate for rate in claimed if rate and rate > 0]
    if num_frames < 2 or last <= first:
        return rates[0] if rates else None
    mean = (num_frames - 1) / ((last - first) * time_base)
    rounding = min(2.0, _ROUNDING_SEC / float(time_base)) / (last - first)
    return next(
        (rate for rate in rates if abs(float(rate / mean) - 1) <= max(_RATE_TOLERANCE, rounding)),
        mean.limit_denominator(_MAX_DENOMINATOR),
    )


def _claimed_rates(stream: VideoStream) -> tuple[Fraction | None, ...]:
    return stream.average_rate, stream.guessed_rate, stream.base_rate


def _lists_every_frame(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the header lists all frames with their times; a fragmented file's does not."""
    entries = stream.index_entries
    return "mov" in container.format.name.split(",") and 0 < len(entries) <= stream.frames and entries[0].is_keyframe


def _is_steady(mean: Fraction | None, stream: VideoStream) -> bool:
    """Whether frames last equally long, so that the list's decoding times give the rate of what is shown."""
    usual = stream.base_rate
    return mean is not None and usual is not None and abs(mean - usual) <= _RATE_TOLERANCE * usual


def _is_doubtful(container: InputContainer, stream: VideoStream) -> bool:
    """Whether frames seem to be listed only by decoding times, or by fields; reading all packets then decides."""
    fields = FieldPairs.of(stream.codec_context.name, stream.codec_context.extradata)
    if not stream.codec_context.reorder_depth and fields is None:
        return False
    packets = [packet for packet in itertools.islice(container.demux(stream), _PEEKED_PACKETS) if packet.size]
    if fields is not None and any([fields.is_second(bytes(packet)) for packet in packets]):
        return True
    return all(p.pts == p.dts for p in packets) and contradicts_decoder(stream, [packet.pts for packet in packets])


class _ScanCache:
    """The scans made last in this process: a data worker opens the same file many times."""

    def __init__(self) -> None:
        self._scans: OrderedDict[tuple[object, ...], Scan] = OrderedDict()
        self._num_packets = 0
        self._lock = threading.Lock()

    def get(self, path: str, stream_index: int, **how: bool) -> Scan:
        """The file's scan, made if need be. Args: how, those of ``scan_packets``."""
        about = os.stat(path)
        file = (os.path.realpath(path), about.st_size, about.st_mtime_ns, about.st_ino)
        key = (*file, stream_index, *sorted(how.items()))
        with self._lock:
            if key in self._scans:
                self._scans.move_to_end(key)
                return self._scans[key]
        scan = scan_packets(path, stream_index, **how)
        with self._lock:
            self._scans[key] = scan
            self._num_packets += len(scan.pts)
            while self._num_packets > CACHED_PACKETS and len(self._scans) > 1:
                self._num_packets -= len(self._scans.popitem(last=False)[1].pts)
        return scan


_SCANS = _ScanCache()
