"""Videos to measure with: standardised as users' are (30 fps, GOP 250, B-frames, audio), from footage or drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = 30


def standardised(
    folder: Path, name: str, width: int, height: int, bit_rate: int, num_frames: int, sources: list[Path]
) -> Path:
    """The file folder/name, made unless it is there: x264's defaults, 30 fps, an AAC track."""
    path = folder / f"{name}-{width}x{height}-{num_frames}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"threads": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", bit_rate
        audio = container.add_stream("aac", rate=44100, layout="stereo")
        for number, image in enumerate(itertools.islice(_pictures(sources, width, height), num_frames)):
            image.pts, image.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
        rng = np.random.default_rng(0)
        for number in range(num_frames * 44100 // FPS // 1024):
            sound = av.AudioFrame.from_ndarray(
                rng.normal(0, 0.1, (2, 1024)).astype(np.float32), format="fltp", layout="stereo"
            )
            sound.sample_rate, sound.pts, sound.time_base = 44100, number * 1024, Fraction(1, 44100)
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    partial.rename(path)
    return path


def _pictures(sources: list[Path], width: int, height: int) -> Iterator[av.VideoFrame]:
    """Frames of the footage over and over, or a drawn scene that moves."""
    while sources:
        for source in sources:
            with av.open(str(source)) as container:
                for frame in container.decode(container.streams.video[0]):
                    yield frame.reformat(width, height, "yuv420p", interpolation="BICUBIC")
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (2 * height // 8, 2 * width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    for number in itertools.count():
        row, column = number % height, (2 * number) % width
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[row : row + height, column : column + width]))
