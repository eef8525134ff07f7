"""Any video to a constant-rate H.264 MP4: upright, of even size, beginning at time 0."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tsp.data.video.encode import open_mp4
from tsp.data.video.errors import VideoError

_UPRIGHT_FILTERS: dict[int, list[tuple[str, str | None]]] = {
    0: [],
    90: [("transpose", "cclock")],
    180: [("hflip", None), ("vflip", None)],
    270: [("transpose", "clock")],
}
"""By the degrees, counterclockwise, that the file asks a player to turn the picture."""
_AUDIO_RATE_HZ = 44100


def transcode(
    source: Path,
    target: Path,
    *,
    fps: Fraction | int = 30,
    crf: int = 23,
    max_height_px: int | None = None,
    keep_audio: bool = False,
) -> int:
    """Write ``source`` as constant-rate H.264 (x264's own GOP and B-frames); ``target`` is whole or not there.

    Returns: the number of frames written.
    Raises: VideoError if the source cannot be opened, or decoded to its end.
    """
    try:
        with av.open(str(source), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError(f"{source} holds no video stream")
            audio = container.streams.audio[0] if keep_audio and container.streams.audio else None
            num_frames = _write(container, container.streams.video[0], audio, target, Fraction(fps), crf, max_height_px)
    except (av.error.FFmpegError, EOFError) as error:
        raise VideoError(f"{source} cannot be standardised: {getattr(error, 'strerror', None) or error}") from error
    if num_frames == 0:
        raise VideoError(f"{source} holds no video frames")
    return num_frames


def _write(
    container: InputContainer,
    video: VideoStream,
    audio: AudioStream | None,
    target: Path,
    fps: Fraction,
    crf: int,
    max_height_px: int | None,
) -> int:
    video.thread_type = "NONE"
    num_frames = 0
    with open_mp4(target) as out:
        video_out = out.add_stream("libx264", rate=fps)
        video_out.pix_fmt = "yuv420p"
        video_out.options = {"crf": str(crf)}
        video_out.codec_context.thread_count = 1
        # All streams are declared before the first packet: that is when the file's header is written.
        audio_out = out.add_stream("aac", rate=_AUDIO_RATE_HZ) if audio is not None else None
        for frame in _filtered(container, video, fps, max_height_px):
            if num_frames == 0:
                video_out.width, video_out.height = frame.width, frame.height
            frame.pts, frame.time_base = num_frames, 1 / fps
            frame.pict_type = 0
            out.mux(video_out.encode(frame))
            num_frames += 1
        if num_frames == 0:
            raise VideoError(f"{video.container.name} holds no video frames")
        out.mux(video_out.encode(None))
        if audio is not None and audio_out is not None:
            container.seek(0)
            resampler = AudioResampler(format="fltp", layout="stereo", rate=_AUDIO_RATE_HZ)
            for sound in container.decode(audio):
                for part in resampler.resample(sound):
                    part.pts = None
                    out.mux(audio_out.encode(part))
            out.mux(audio_out.encode(None))
    return num_frames


def _filtered(
    container: InputContainer, video: VideoStream, fps: Fraction, max_height_px: int | None
) -> Iterator[VideoFrame]:
    """The frames turned upright, at a constant rate, in the size to write."""
    graph: av.filter.Graph | None = None
    size = (0, 0)
    for frame in container.decode(video):
        if graph is None:
            size = (frame.width, frame.height)
            graph = _graph(video, frame, fps, max_height_px)
        elif (frame.width, frame.height) != size:
            # A stream that changes its size keeps the first one.
            pts, time_base = frame.pts, frame.time_base
            frame = frame.reformat(*size)
            frame.pts, frame.time_base = pts, time_base
        graph.push(frame)
        yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _graph(video: VideoStream, first: VideoFrame, fps: Fraction, max_height_px: int | None) -> av.filter.Graph:
    height = f"min(ih,{max_height_px})" if max_height_px else "ih"
    chain = [
        *_UPRIGHT_FILTERS[round(first.rotation / 90) * 90 % 360],
        ("setpts", "PTS-STARTPTS"),
        ("fps", f"fps={fps}"),
        ("scale", f"w='max(2,trunc(iw*{height}/ih/2)*2)':h='max(2,trunc({height}/2)*2)'"),
        ("setsar", "1"),
        ("format", "yuv420p"),
    ]
    graph = av.filter.Graph()
    last = graph.add_buffer(template=video, width=first.width, height=first.height, format=first.format)
    for name, arguments in chain:
        node = graph.add(name, arguments)
        last.link_to(node)
        last = node
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: av.filter.Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, VideoFrame)
        yield frame
