"""Writing videos: H.264 in MP4, under another name first and then renamed.

One encoder thread: several processes write the files of a data set in parallel, and so the bytes do not depend on the
number of cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from tsp.store.atomic import new_file

Frame = NDArray[np.uint8]
"""RGB, [height, width, 3]."""


@contextmanager
def open_mp4(path: Path) -> Iterator[OutputContainer]:
    """An MP4 file to write to, complete or absent; its index is at the front, so that it can be streamed from a
    store."""
    with new_file(path) as partial, av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        yield out


def write_video(
    path: Path,
    frames: Iterable[Frame],
    *,
    fps: Fraction | int = 30,
    crf: int = 20,
    preset: str = "veryfast",
    options: Mapping[str, str] | None = None,
) -> int:
    """Write frames as constant-rate H.264 (yuv420p, x264's own GOP and B-frames unless options say otherwise).

    The same frames and options give the same bytes.

    Args: frames, RGB uint8, all of one even size; crf, x264's quality, 0 is lossless; options, further x264 options.
    Returns: the number of frames written.
    Raises: ValueError for no frames, an odd size, or frames that differ in size.
    """
    num_frames = 0
    with open_mp4(path) as out:
        stream = out.add_stream("libx264", rate=Fraction(fps))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        # the same frames give the same bytes: x264's macroblock tree does not, one time in twenty (164, AVX-512)
        stream.options = {"crf": str(crf), "preset": preset, "mbtree": "0", **(options or {})}
        size = None
        for pixels in frames:
            if size is None:
                size = pixels.shape
                stream.height, stream.width = size[:2]
                if stream.height % 2 or stream.width % 2:
                    raise ValueError(f"{path}: H.264 needs an even size, got {stream.width}x{stream.height}")
            elif pixels.shape != size:
                raise ValueError(f"{path}: frame {num_frames} is {pixels.shape}, the first one was {size}")
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = num_frames, 1 / Fraction(fps)
            out.mux(stream.encode(frame))
            num_frames += 1
        if num_frames == 0:
            raise ValueError(f"{path}: a video needs at least one frame")
        out.mux(stream.encode(None))
    return num_frames
