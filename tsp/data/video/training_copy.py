"""Training copies: all frames of a video, resized exactly as training resizes them, each stored as a key frame.

In a QuickTime file, as JPEG (5-8 kB a frame, 2-3 of 255 levels away from the exact pixels) or raw (66 kB, a quarter of
a level). Any frame can be read without the others, so reading a clip takes the same time anywhere in a video, whatever
the original size. Times are those of the source, so the same frames are chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch.nn import functional

from tsp.config.jobs import CopyFormat
from tsp.data.copy_name import stored_width
from tsp.data.video.colour import to_rgb
from tsp.data.video.errors import VideoError, reading
from tsp.data.video.open_video import VideoSource
from tsp.store.atomic import new_file

_QSCALE = 2
"""Best quality step of the JPEG encoder; coarser ones save space but no decoding time."""
_LAMBDA = 118  # FFmpeg's units of quality per step
_FLAG_QSCALE = 1 << 1
_FULL_RANGE = 2
_FORMAT_OF_CODEC: dict[str, CopyFormat] = {"mjpeg": "mjpeg", "rawvideo": "raw"}


def format_of_copy(path: Path) -> CopyFormat | None:
    """The format of a training copy; None where there is none, or nothing that could be one."""
    try:
        opened = VideoSource(path)
    except VideoError:
        return None
    try:
        return _FORMAT_OF_CODEC.get(opened.codec.name)
    finally:
        opened.close()


def write_training_copy(
    source: Path, target: Path, *, height_px: int = 128, width_px: int = 171, copy_format: CopyFormat = "mjpeg"
) -> int:
    """Write the training copy of a standardised video, atomically.

    Returns: the number of frames.
    Raises: VideoError if the source cannot be decoded.
    """
    opened = VideoSource(source)
    num_frames = 0
    with contextlib.closing(opened), reading(source, "cannot be converted to a training copy"):
        # The index goes in front, so that opening the copy reads one place. The file's own unit of time, in which it
        # says when the first frame is shown, is that of the source.
        options = {"movflags": "+faststart", "movie_timescale": str(opened.time_base.denominator)}
        with (
            _one_thread(),
            new_file(target) as partial,
            av.open(str(partial), "w", format="mov", options=options) as container,
        ):
            stream = _add_stream(container, opened, height_px, width_px, copy_format)
            for packet in opened.all_packets():
                for frame in opened.codec.decode(packet):
                    small = _resized(opened, frame, stream, width_px)
                    # The first frame is also what clips get that begin before it: a copy alone does not know that its
                    # picture came late.
                    small.pts = small.pts if num_frames else 0
                    container.mux(stream.encode(small))
                    num_frames += 1
            container.mux(stream.encode())
            if num_frames == 0:
                raise VideoError(f"{source} has no frames")
    return num_frames


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Resizing one small frame takes several threads five times the work of one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _add_stream(
    container: OutputContainer, opened: VideoSource, height_px: int, width_px: int, copy_format: CopyFormat
) -> VideoStream:
    rate, options = opened.fps or Fraction(30), {"threads": "1"}
    if copy_format == "raw":
        stream = container.add_stream("rawvideo", rate=rate)
        stream.width, stream.height, stream.pix_fmt = stored_width(width_px), height_px, "rgb24"
    else:
        stream = container.add_stream("mjpeg", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuvj420p"
        stream.codec_context.color_range = _FULL_RANGE
        stream.codec_context.flags |= _FLAG_QSCALE
        stream.codec_context.global_quality = _QSCALE * _LAMBDA
    stream.codec_context.time_base = opened.time_base
    return stream


def _resized(opened: VideoSource, frame: VideoFrame, stream: VideoStream, width_px: int) -> VideoFrame:
    if frame.pts is None:
        raise VideoError(f"{opened.path} has frames without a time: run 'tspctl data standardize' first")
    rgb = torch.from_numpy(to_rgb(opened.rgb_reformatter, frame).to_ndarray()).permute(2, 0, 1)[None].to(torch.float32)
    small = functional.interpolate(rgb, size=(stream.height, width_px), mode="bilinear", align_corners=False)[0]
    image = np.zeros((stream.height, stream.width, 3), np.uint8)
    image[:, :width_px] = small.permute(1, 2, 0).round().to(torch.uint8).numpy()
    resized = VideoFrame.from_ndarray(image, format="rgb24")
    if stream.pix_fmt != "rgb24":
        resized = resized.reformat(format=stream.pix_fmt, dst_color_range=_FULL_RANGE)
    resized.pts, resized.time_base = frame.pts, opened.time_base
    return resized
