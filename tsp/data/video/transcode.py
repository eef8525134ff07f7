"""Converts any video to a constant-rate H.264 MP4 as a player shows it: upright, of even size, with the same times.

Preserved are time 0, which is where a player shows 0, so a picture that begins late is preceded by its first frame, and
sound stays in sync; the whole display matrix; and colours, whose matrix is kept and marked, while full-range levels
become 16 to 235. Frames that cannot be decoded, or that the container claims but lacks, are an error, or are reported
when salvaging.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from tsp.data.video.claims import missing_end, unheeded
from tsp.data.video.colour import STANDARDISED, why_not_rgb
from tsp.data.video.display_matrix import CROSSED, FILTERS, turn_of
from tsp.data.video.encode import open_mp4
from tsp.data.video.errors import VideoError, reading, reason_of
from tsp.data.video.filter_graph import chain, pulled
from tsp.data.video.open_video import VideoSource
from tsp.data.video.packet_scan import ORDER_NOTE
from tsp.data.video.sound import sound_frames
from tsp.data.video.timeline import pauses
from tsp.wording import counted, counted_is

GOP_FRAMES = 16
"""Most frames from one key frame to the next in standardised files: see README.md, Decisions."""
RANDOM_ACCESS_X264: Mapping[str, str] = {"g": str(GOP_FRAMES), "x264-params": "b-pyramid=none"}
"""x264's options for files of which clips are read at random; without any, its defaults are the published encoding."""
_AUDIO_RATE_HZ = 44100
_MOST_GAPS = 4
_FREEZE_SEC = 0.5
MAX_STILL_SEC = 900.0
"""A frame that would be repeated for longer shows that a time is wrong, and would fill the disk."""
_MATRIX_NAMES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020nc"}


@dataclass(frozen=True, slots=True)
class Transcoded:
    """What was written."""

    num_frames: int
    lost: tuple[str, ...] = ()
    """Descriptions of what was lost; empty unless salvaging."""
    notes: tuple[str, ...] = ()
    """Descriptions of doubts about the source's times."""


def transcode(
    source: Path,
    target: Path,
    *,
    fps: Fraction | int = 30,
    crf: int = 23,
    max_height_px: int | None = None,
    keep_audio: bool = False,
    x264: Mapping[str, str] = RANDOM_ACCESS_X264,
    salvage: bool = False,
    comment: str = "",
) -> Transcoded:
    """Write ``source`` as constant-rate H.264; ``target`` is complete or absent.

    Args: x264, further options; salvage, keep what can be decoded; comment, written into the file's metadata.
    Raises: VideoError if the source cannot be opened, or if it is damaged or truncated and ``salvage`` is False.
    """

    def write(*, reordered: bool = False) -> Transcoded:
        opened = VideoSource(source, whole=True, untimed=True, reordered=reordered)
        with closing(opened), reading(source, "cannot be standardised"):
            video = _Picture(opened, Fraction(fps), max_height_px, salvage, reordered=reordered)
            with open_mp4(target) as out:
                out.metadata.update({"comment": comment} if comment else {})
                num_frames = _write(video, out, source, keep_audio, {"crf": str(crf), **x264})
            return Transcoded(num_frames, tuple(video.lost), _doubts(opened))

    try:
        return write()
    except _FallingTimesError:
        return write(reordered=True)


class _FallingTimesError(VideoError):
    """The times of the frames do not rise in the order in which the decoder puts them out."""


def _doubts(opened: VideoSource) -> tuple[str, ...]:
    scan = opened.timeline.scan
    assert scan is not None
    freezes = [
        f"no frame between {pause.begin_sec:.2f} and {pause.end_sec:.2f} s, so the frame before is repeated"
        for pause in pauses(scan.shown, opened.time_base)
        if pause.end_sec - pause.begin_sec >= _FREEZE_SEC
    ]
    # Every AVI file with B-frames is put in the decoder's order; nothing about it is doubtful.
    return (
        *(note for note in scan.notes if note != ORDER_NOTE),
        *_shortened(freezes),
        *unheeded(opened.path, opened.container, opened.stream, scan),
    )


def _shortened(texts: list[str]) -> list[str]:
    return texts if len(texts) <= _MOST_GAPS else [*texts[:3], f"and {len(texts) - 3} more gaps"]


def _write(video: _Picture, out: OutputContainer, source: Path, keep_audio: bool, options: Mapping[str, str]) -> int:
    stream = out.add_stream("libx264", rate=video.fps)
    stream.pix_fmt = "yuv420p"
    stream.options = dict(options)
    stream.codec_context.thread_count = 1
    # All streams are declared before the first packet: that is when the file's header is written.
    sound = out.add_stream("aac", rate=_AUDIO_RATE_HZ) if keep_audio and video.has_audio else None
    num_frames = 0
    for frame in video.frames():
        if num_frames == 0:
            stream.width, stream.height = frame.width, frame.height
            _mark_colours(stream, frame)
            stream.codec_context.sample_aspect_ratio = video.pixel_aspect
        frame.pts, frame.time_base = num_frames, 1 / video.fps
        frame.pict_type = 0
        out.mux(stream.encode(frame))
        num_frames += 1
    if num_frames == 0:
        raise VideoError(f"{source} contains no video frames that can be decoded")
    out.mux(stream.encode(None))
    if sound is not None:
        for part in sound_frames(str(source), _AUDIO_RATE_HZ):
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))
    return num_frames


def _mark_colours(stream: VideoStream, frame: VideoFrame) -> None:
    context = stream.codec_context
    context.color_range = ColorRange.MPEG
    context.colorspace = frame.colorspace
    context.color_primaries = frame.color_primaries
    context.color_trc = frame.color_trc


class _Picture:
    """The frames of a file, turned upright, at a constant rate, in the size and colours to write."""

    def __init__(
        self,
        opened: VideoSource,
        fps: Fraction,
        max_height_px: int | None,
        salvage: bool,
        *,
        reordered: bool = False,
    ) -> None:
        self.fps = fps
        self.lost: list[str] = []
        self.has_audio = bool(opened.container.streams.audio)
        self.pixel_aspect = opened.stream.sample_aspect_ratio or Fraction(1)
        """Width to height of a pixel to write: kept as it is, pixel for pixel."""
        self._opened = opened
        self._max_height_px = max_height_px
        self._salvage = salvage
        scan = opened.timeline.scan
        self._may_reorder = not reordered and scan is not None and not scan.notes
        """Whether times that fall can be corrected: behind a joint, players show what they do show."""
        self._late: set[int] = set()
        self._decoded: list[int] = []

    def frames(self) -> Iterator[VideoFrame]:
        """The frames to write. Raises: VideoError at the end if something was lost and ``salvage`` is False."""
        graph: av.filter.Graph | None = None
        size = (0, 0)
        shown_sec = 0.0
        for frame in self._decode():
            if (frame.time or 0.0) - shown_sec > MAX_STILL_SEC:
                raise VideoError(
                    f"{self._opened.path} shows nothing new between {shown_sec:.0f} and {frame.time:.0f} s: its times "
                    f"are damaged; cut out the part you need"
                )
            shown_sec = frame.time or 0.0
            if graph is None:
                size = (frame.width, frame.height)
                graph = self._graph(frame)
            elif (frame.width, frame.height) != size:
                # A stream that changes its size keeps the first one.
                pts, time_base = frame.pts, frame.time_base
                frame = frame.reformat(*size)
                frame.pts, frame.time_base = pts, time_base
            graph.push(frame)
            yield from pulled(graph, VideoFrame)
        self._account()
        if graph is not None:
            graph.push(None)
            yield from pulled(graph, VideoFrame)

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames in the order they are shown; of several with the same time, the last one will stay on screen."""
        packets = self._opened.all_packets()
        # Filters show the last frame for as long as it says, and not at all if it does not say (ASF).
        usual = round(1 / (self._opened.fps * self._opened.time_base)) if self._opened.fps else 0
        last: int | None = None
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else self._opened.codec.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                if not self._salvage:
                    at_sec = float((last or 0) * self._opened.time_base)
                    raise VideoError(
                        f"{self._opened.path} cannot be standardised: decoding fails after {at_sec:.2f} s: "
                        f"{reason_of(error)}; --salvage keeps what can be decoded"
                    ) from error
                continue
            if packet is None:
                return
            for frame in frames:
                if frame.pts is None:
                    continue
                if last is not None and frame.pts < last:
                    if self._may_reorder:
                        raise _FallingTimesError(f"{self._opened.path}: its times fall")
                    self._late.add(frame.pts)
                    continue
                last = frame.pts
                frame.duration = frame.duration or usual
                if not frame.is_corrupt:
                    self._decoded.append(last)
                yield frame

    def _account(self) -> None:
        """Compare what was decoded with what the container lists and claims."""
        opened, scan = self._opened, self._opened.timeline.scan
        assert scan is not None
        shown = scan.shown
        if self._decoded:
            # What comes before the first whole frame belongs to a picture group whose beginning was cut away.
            shown = shown[shown >= self._decoded[0]]
        lost = [fault for fault in (scan.fault,) if fault]
        late = self._late.difference(self._decoded)
        if late:
            at_sec = float(min(late) * opened.time_base)
            lost.append(f"{counted_is(len(late), 'frame')} out of order, the first at {at_sec:.2f} s")
        lost += _gaps(shown, np.isin(shown, [*self._decoded, *late]), float(opened.time_base))
        if opened.fps:
            end = missing_end(opened.path, opened.container, opened.stream, scan, opened.fps)
            lost += [end] if end else []
        if lost and not self._salvage:
            raise VideoError(
                f"{opened.path} cannot be standardised: {'; '.join(lost)}; --salvage keeps what can be decoded"
            )
        self.lost = lost

    def _graph(self, first: VideoFrame) -> av.filter.Graph:
        if int(first.colorspace) not in STANDARDISED and (why := why_not_rgb(first)):
            raise VideoError(f"{self._opened.path} cannot be standardised: {why}")
        turn = turn_of(first)
        if turn in CROSSED:
            self.pixel_aspect = 1 / self.pixel_aspect
        height = f"min(ih,{self._max_height_px})" if self._max_height_px else "ih"
        filters: list[tuple[str, str | None]] = [
            # From time 0 on, before a picture that begins late its first frame.
            ("fps", f"fps={self.fps}:start_time=0"),
            *FILTERS[turn],
            (
                "scale",
                f"w='max(2,trunc(iw*{height}/ih/2)*2)':h='max(2,trunc({height}/2)*2)':out_range=tv{_matrices(first)}",
            ),
            ("setsar", str(self.pixel_aspect)),
            ("format", "yuv420p"),
        ]
        graph = av.filter.Graph()
        source = graph.add_buffer(
            template=self._opened.stream, width=first.width, height=first.height, format=first.format
        )
        return chain(graph, source, filters, sink="buffersink")


def _matrices(frame: VideoFrame) -> str:
    """RGB becomes BT.601; everything else keeps its matrix, and what is not marked stays so."""
    name = _MATRIX_NAMES.get(int(frame.colorspace))
    if frame.format.is_rgb:
        # Its fast conversion from RGB loses one more level.
        return ":out_color_matrix=bt601:flags=bicubic+accurate_rnd+full_chroma_inp"
    return f":in_color_matrix={name}:out_color_matrix={name}" if name else ""


def _gaps(shown: np.ndarray, is_there: np.ndarray, seconds_per_unit: float) -> list[str]:
    """In words, runs of frames that are not there."""
    texts = []
    for there, numbers in itertools.groupby(range(len(shown)), lambda number: bool(is_there[number])):
        if there:
            continue
        run = list(numbers)
        begin, end = (float(shown[number]) * seconds_per_unit for number in (run[0], run[-1]))
        texts.append(f"{counted(len(run), 'frame')} from {begin:.2f} to {end:.2f} s cannot be decoded completely")
    return _shortened(texts)
