"""All packets of a file's video, read once without decoding, and the times at which their frames are shown.

Possible problems of a container, and their solutions:

- **The clock restarts or jumps** (joined transport streams): it is made continuous (``packet_clock``).
- **Decoding times only** (AVI, ASF, Matroska with AVI's headers), or no time for some frames (MPEG-PS). FFmpeg
estimates the presentation times, incorrectly with B-frames. The decoder's order is right: each packet is decoded with
its own number as its time, so the numbers come out in the order in which the frames are shown.
- **Decoding times in place of presentation times** (H.264 copied from an elementary stream into MP4): frames that the
decoder reorders cannot be shown in the order in which they are stored, so the decoder's order counts here, too.
- **Times that contradict the decoder** (damaged, or written by a faulty program): noticed only while decoding, so a
caller that meets them asks for the decoder's order. Times that do not rise in it are corrected.
- **No times at all** (elementary streams, or copies of them): refused, unless the caller wants the rate that the stream
states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.video.stream import VideoStream

from tsp.data.video.decoded_order import decoded_order, filled, in_order, never_fall, rise
from tsp.data.video.errors import VideoError, reason_of
from tsp.data.video.h264_fields import FieldPairs
from tsp.data.video.open_input import open_input
from tsp.data.video.packet_clock import Clock, has_flag
from tsp.wording import counted, counted_is

HIDDEN = int(np.iinfo(np.int64).min)
"""In place of a time: the packet's frame is never shown."""
ORDER_NOTE = "the container does not store when frames are shown, so they are in the decoder's order"
_ORDERED_CODECS = frozenset(
    ("mjpeg", "rawvideo", "ffv1", "huffyuv", "dvvideo", "vp8", "vp9", "flv1", "wmv1", "wmv2", "msmpeg4v2", "msmpeg4v3",
     "theora", "png", "qtrle", "prores", "utvideo", "magicyuv", "cinepak", "msvideo1", "gif", "h263", "dnxhd")
)  # fmt: skip
"""Codecs whose frames are shown in the order they are stored."""
_HIDING_CODECS = frozenset({"mpeg4", "msmpeg4v2", "msmpeg4v3", "h263", "vc1", "wmv3", "theora"})
"""Codecs in which a packet may hold no frame, or an empty one, which repeats the one before."""
_DECODING_TIMES_ONLY = frozenset({"avi", "asf"})
_MOST_LEADING = 64
"""More packets than this are never shown before the key frame that they follow."""
_OGG_HEADERS = (b"\x80theora", b"OVP80")
"""How streams begin; within one another begins, of which the decoder knows nothing."""
_VP8_SHOWN = 1 << 4
"""Bit of a VP8 packet's first byte."""
_FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class Scan:
    """Every packet of a video stream in the order of the file; times in its units, 0 is the container's start."""

    pts: np.ndarray
    """int64 [N], when the packet's frame is shown; HIDDEN if it is not."""
    due: np.ndarray
    """int64 [N], the smallest ``pts`` of this and all later packets."""
    is_key: np.ndarray
    """bool [N]"""
    position: np.ndarray
    """int64 [N], the packet's offset in the file; identifies packets."""
    seek_to: np.ndarray
    """int64 [N], the container's own time of the packet, by which it can be sought."""
    shown: np.ndarray
    """int64, the times of all frames that are shown, rising."""
    is_seekable: bool
    """Whether the container's clock is continuous and packets' positions differ, so that one can be sought."""
    notes: tuple[str, ...]
    """Descriptions of problems that were found and corrected."""
    end_sec: float
    """When the last packet of any stream ends, by its container's clock, made continuous."""
    end_byte: int
    """Where in the file the last packet of any stream ends."""
    fields_apart: bool
    """Whether some frames are two packets, a field each."""
    fault: str
    """Why reading ended before the file's end; empty if it did not."""

    def key_before(self, pts: int) -> int:
        """Number of the last key packet whose frame is shown at or before pts; 0 if there is none."""
        found = np.flatnonzero(self.is_key & (self.pts <= pts) & (self.pts != HIDDEN))
        return int(found[-1]) if len(found) else 0


@dataclass(slots=True)
class _Raw:
    pts: int | None
    dts: int | None
    duration: int
    position: int
    is_key: bool
    is_hidden: bool
    seek_to: int | None
    is_second_field: bool = False


def contradicts_decoder(stream: VideoStream, pts: Iterable[int | None]) -> bool:
    """Whether packets with these times are shown in the order in which they are stored, while the decoder reorders."""
    return stream.codec_context.reorder_depth > 0 and rise([time for time in pts if time is not None])


def _may_be_decoding_times(packets: list[_Raw]) -> bool:
    """Whether times of presentation, where only some frames have one, are those of decoding throughout."""
    is_sparse = any(packet.pts is None for packet in packets)
    return not is_sparse or all(packet.pts in (None, packet.dts) for packet in packets)


def scan_packets(
    path: str, stream_index: int, *, counted: bool = False, untimed: bool = False, reordered: bool = False
) -> Scan:
    """Read all packets of a stream.

    Args: counted, decode where packets may hold no frame, so that what is listed as shown is; untimed, give an
        elementary stream the times of its rate, and take frames that share a time behind a joint; reordered, correct
        times that do not rise in the decoder's order.
    Raises: VideoError if the stream has no times, or none that can be made to rise; av.error.FFmpegError.
    """
    with open_input(path) as container:
        stream = container.streams[stream_index]
        assert isinstance(stream, VideoStream)
        assert stream.time_base is not None
        time_base = stream.time_base
        clock = Clock(container)
        packets: list[_Raw] = []
        fault = ""
        try:
            packets += _packets(container, stream, clock)
        except av.error.FFmpegError as error:
            fault = f"reading fails after {len(packets)} packets: {reason_of(error)}"
        fault = fault or clock.fault
        notes = list(clock.notes)
        origin = round(Fraction(container.start_time or 0, 1_000_000) / time_base)
        is_elementary = has_flag(container, Flags.no_timestamps)
        has_no_times = is_elementary or all(packet.pts is None and packet.dts is None for packet in packets)
        rate = stream.guessed_rate or stream.average_rate or _FALLBACK_RATE
        is_guessed = _guesses_times(container, stream)
        has_pts = not is_guessed
        may_hide = counted and stream.codec_context.name in _HIDING_CODECS
        if has_pts and _may_be_decoding_times(packets) and contradicts_decoder(stream, (p.pts for p in packets)):
            _take_for_decoding_times(packets, origin, stream.codec_context.reorder_depth)
            has_pts = False
    if has_no_times and packets:
        what = (
            "an elementary stream, whose frames have no times"
            if is_elementary
            else "a video whose frames have no times"
        )
        if not untimed:
            raise VideoError(
                f"{path} is {what}: run 'tspctl data standardize' first, which gives them the stream's rate"
            )
        notes.append(f"a stream without times: {float(rate):g} frames per second are assumed")
        _number(packets, round(1 / (rate * time_base)))
        origin, has_pts = 0, False
    if packets and has_pts and _may_lack_its_beginning(packets):
        _hide_what_lacks_its_beginning(path, stream_index, packets)
    if packets and (not has_pts or may_hide or any(packet.pts is None for packet in packets)):
        _put_in_decoded_order(path, stream_index, packets, has_pts, notes)
    if reordered and packets:
        _correct_by_decoder(path, stream_index, packets, notes)
    if is_guessed and packets:
        # FFmpeg takes the start of sound for the container's where it guesses that the first frame is shown later.
        origin = min((origin, *(packet.pts for packet in packets if packet.pts is not None and not packet.is_hidden)))
    return _without_doubles(path, _table(packets, origin, clock, notes, fault), clock, untimed)


def _without_doubles(path: str, scan: Scan, clock: Clock, untimed: bool) -> Scan:
    """Refuse or remark frames that share a time behind a joint, where FFmpeg gives stored times to the wrong ones."""
    num_alike = int(np.count_nonzero(scan.pts != HIDDEN)) - len(scan.shown)
    if not clock.notes or not num_alike:
        return scan
    note = f"after it, {counted(num_alike, 'frame')} {'has' if num_alike == 1 else 'have'} the same time as another"
    if not untimed:
        raise VideoError(
            f"{path}: {clock.notes[0]}, but {note}: run 'tspctl data standardize' first, which writes what players show"
        )
    return replace(
        scan, notes=(*scan.notes, f"{note}: these are lost, and later frames are up to that many frames early")
    )


def _guesses_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether FFmpeg makes up times of presentation, which the container does not store, of frames out of order."""
    if stream.codec_context.name in _ORDERED_CODECS:
        return False
    formats = set(container.format.name.split(","))
    is_avi_in_matroska = "matroska" in formats and stream.codec_context.codec_tag.strip("\0") != ""
    return bool(formats & _DECODING_TIMES_ONLY) or is_avi_in_matroska


def _packets(container: InputContainer, stream: VideoStream, clock: Clock) -> Iterator[_Raw]:
    sound = container.streams.best("audio")
    is_vp8 = stream.codec_context.name == "vp8"
    fields = FieldPairs.of(stream.codec_context.name, stream.codec_context.extradata)
    is_ogg, num_frames = container.format.name == "ogg", 0
    for packet in container.demux():
        if not packet.size:
            continue
        is_video = packet.stream.index == stream.index
        takes_part = is_video or (clock.may_jump and sound is not None and packet.stream.index == sound.index)
        offset = clock.offset(packet) if takes_part else 0
        clock.note_end(packet, offset)
        if is_video:
            if is_ogg and num_frames and bytes(memoryview(packet)[:8]).startswith(_OGG_HEADERS):
                clock.fault = "a second stream is chained to it, which is not read: split the file into its parts"
                return
            num_frames += 1
            pts, dts = packet.pts, packet.dts
            is_second_field = fields is not None and fields.is_second(bytes(packet))
            yield _Raw(
                pts=None if pts is None else pts + offset,
                dts=None if dts is None else dts + offset,
                duration=packet.duration or 0,
                position=-1 if packet.pos is None else packet.pos,
                is_key=packet.is_keyframe,
                is_hidden=packet.is_discard or is_second_field or (is_vp8 and not memoryview(packet)[0] & _VP8_SHOWN),
                seek_to=pts if pts is not None else dts,
                is_second_field=is_second_field,
            )


def _may_lack_its_beginning(packets: list[_Raw]) -> bool:
    """Whether frames are shown before the first key frame: in open GOPs they need what was cut away."""
    first = packets[0]
    return not first.is_key or any(
        packet.pts is not None and first.pts is not None and packet.pts < first.pts and not packet.is_hidden
        for packet in packets[:_MOST_LEADING]
    )


def _hide_what_lacks_its_beginning(path: str, stream_index: int, packets: list[_Raw]) -> None:
    """In a file that was cut at its front, frames before the first that can be decoded are never shown."""
    with closing(decoded_order(path, stream_index)) as order:
        first = next(order, len(packets))
    if first < len(packets) and (first_pts := packets[first].pts) is not None:
        for packet in packets:
            packet.is_hidden = packet.is_hidden or (packet.pts is not None and packet.pts < first_pts)


def _take_for_decoding_times(packets: list[_Raw], origin: int, reorder_depth: int) -> None:
    """Stored times are in truth decoding times; an edit list that makes up for the decoder's delay hides no frame."""
    num_hidden = next((number for number, packet in enumerate(packets) if not packet.is_hidden), 0)
    early = 0
    if 0 < num_hidden <= reorder_depth:
        early = min(0, (packets[0].pts or 0) - origin)
        for packet in packets[:num_hidden]:
            packet.is_hidden = False
    for packet in packets:
        packet.dts = None if packet.pts is None else packet.pts - early


def _number(packets: list[_Raw], duration: int) -> None:
    for number, packet in enumerate(packets):
        packet.dts, packet.duration = number * duration, duration


def _put_in_decoded_order(path: str, stream_index: int, packets: list[_Raw], has_pts: bool, notes: list[str]) -> None:
    """Give the frames rising times, in the order in which the decoder puts them out.

    Args: has_pts, whether presentation times that packets carry were stored, not guessed; the others are filled in.
    """
    hidden = frozenset(number for number, packet in enumerate(packets) if packet.is_hidden)
    order = [number for number in dict.fromkeys(decoded_order(path, stream_index, hidden)) if number < len(packets)]
    order = [number for number in order if number not in hidden]
    times = filled([packets[number].pts for number in order]) if has_pts else []
    if not never_fall(times):
        times = filled([packets[number].dts for number in sorted(order)])
    if not never_fall(times):
        raise VideoError(
            f"the timestamps in {path} do not increase: run 'ffmpeg -i IN -c copy OUT.mkv', or re-encode it"
        )
    if order != sorted(order) and not has_pts:
        notes.append(ORDER_NOTE)
    for packet in packets:
        packet.is_hidden = True
    for number, time in zip(order, times, strict=True):
        packets[number].pts, packets[number].is_hidden = time, False


def _correct_by_decoder(path: str, stream_index: int, packets: list[_Raw], notes: list[str]) -> None:
    """Make the times rise in the order in which the decoder puts the frames out. Packets without a frame stay as they
    are, so that what cannot be decoded counts as lost.
    """
    hidden = frozenset(number for number, packet in enumerate(packets) if packet.is_hidden)
    order = [number for number in dict.fromkeys(decoded_order(path, stream_index, hidden)) if number < len(packets)]
    stored = {number: pts for number in order if number not in hidden and (pts := packets[number].pts) is not None}
    num_corrected = 0
    for number, time in zip(stored, in_order(list(stored.values())), strict=True):
        num_corrected += time != stored[number]
        packets[number].pts = time
    if num_corrected:
        notes.append(
            f"the stored times of {counted_is(num_corrected, 'frame')} not in the order in which the decoder puts the "
            f"frames out; they were corrected"
        )


def _table(packets: list[_Raw], origin: int, clock: Clock, notes: list[str], fault: str) -> Scan:
    pts = np.array([_shown(packet, origin) for packet in packets], np.int64)
    latest = np.iinfo(np.int64).max
    due = np.minimum.accumulate(np.where(pts == HIDDEN, latest, pts)[::-1])[::-1]
    position = np.array([packet.position for packet in packets], np.int64)
    seek_to = np.array([HIDDEN if packet.seek_to is None else packet.seek_to for packet in packets], np.int64)
    is_key = np.array([packet.is_key for packet in packets], bool)
    return Scan(
        pts=pts,
        due=due,
        is_key=is_key,
        position=position,
        seek_to=seek_to,
        shown=np.unique(pts[pts != HIDDEN]),
        is_seekable=not clock.notes and len(np.unique(position)) == len(position) and HIDDEN not in seek_to,
        notes=tuple(notes),
        end_sec=float(clock.end_sec),
        end_byte=clock.end_byte,
        fields_apart=any(packet.is_second_field for packet in packets),
        fault=fault,
    )


def _shown(packet: _Raw, origin: int) -> int:
    return HIDDEN if packet.is_hidden or packet.pts is None else packet.pts - origin
