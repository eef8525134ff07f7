"""Real H.264 files whose frames say their own number, readable after lossy coding and resizing.

The number is written as 4 x 4 blocks of black and white that fill the picture, least significant bit first; the
background behind it varies, so that P and B frames have something to code.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS_ROWS, BITS_COLUMNS = 4, 4
FPS_15, FPS_24, FPS_25, FPS_30, FPS_60 = (Fraction(rate) for rate in (15, 24, 25, 30, 60))
FPS_NTSC = Fraction(30000, 1001)


@dataclass(frozen=True, kw_only=True)
class Made:
    """How to make a file."""

    num_frames: int = 90
    fps: Fraction = FPS_30
    width: int = 96
    height: int = 64
    gop: int = 30
    b_frames: int = 3
    open_gop: bool = False
    codec: str = "libx264"
    crf: int = 23
    first_pts: int = 0
    """Presentation time of the first frame, in frames."""
    rotation: int = 0
    audio: bool = False
    """Also a stereo AAC stream of silence."""
    noise: int = 0
    """Amplitude of fixed noise: makes files as large as real footage."""
    x264: dict[str, str] = field(default_factory=dict)


def numbered_frame(number: int, width: int, height: int, noise: np.ndarray | None = None) -> np.ndarray:
    """uint8 [H, W, 3] that shows the number in black and white blocks."""
    bits = (number >> np.arange(BITS_ROWS * BITS_COLUMNS)) & 1
    rows = np.arange(height) * BITS_ROWS // height
    columns = np.arange(width) * BITS_COLUMNS // width
    level = np.where(bits.reshape(BITS_ROWS, BITS_COLUMNS)[rows[:, None], columns[None]], 210, 40).astype(np.int16)
    drift = ((np.arange(width)[None] + np.arange(height)[:, None] + 3 * number) % 32).astype(np.int16)
    image = np.stack([level + drift // 2, level + drift // 4, level - drift // 2], axis=-1)
    return np.clip(image if noise is None else image + noise, 0, 255).astype(np.uint8)


def number_of(image_HWC: np.ndarray) -> int:
    """The number a frame shows."""
    height, width, channels = image_HWC.shape
    bits = image_HWC[_middles(height, width)].sum(axis=-1, dtype=int) > 125 * channels
    return int((bits.reshape(-1) << np.arange(bits.size)).sum())


@functools.cache
def _middles(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns in the middle of the blocks."""
    rows = ((np.arange(BITS_ROWS) + 0.5) * height / BITS_ROWS).astype(int)
    columns = ((np.arange(BITS_COLUMNS) + 0.5) * width / BITS_COLUMNS).astype(int)
    return rows[:, None], columns[None]


def write_video(path: Path, made: Made | None = None) -> Path:
    """Write the file that ``made`` describes."""
    made = made or Made()
    options = {
        "g": str(made.gop),
        "bf": str(made.b_frames),
        "crf": str(made.crf),
        "preset": "veryfast",
        "threads": "1",
        "mbtree": "0",  # see tsp.data.video.encode
        "x264-params": ":".join(
            [f"open-gop={int(made.open_gop)}", "scenecut=0", *(f"{key}={value}" for key, value in made.x264.items())]
        ),
    }
    rng = np.random.default_rng(7)
    noise = rng.integers(-made.noise, made.noise + 1, (made.height, made.width, 1)) if made.noise else None
    with av.open(str(path), "w") as container:
        stream = container.add_stream(made.codec, rate=made.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = made.width, made.height, "yuv420p"
        stream.codec_context.time_base = 1 / made.fps
        audio = container.add_stream("aac", rate=44100, layout="stereo") if made.audio else None
        for number in range(made.num_frames):
            if noise is not None:
                noise = np.roll(noise, 1, axis=0)
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, made.width, made.height, noise))
            frame.pts, frame.time_base = made.first_pts + number, 1 / made.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            _mux_silence(container, audio, made.num_frames / made.fps)
    if made.rotation:
        _rotate(path, made.rotation)
    return path


def _mux_silence(container: av.container.OutputContainer, stream: av.AudioStream, duration_sec: Fraction) -> None:
    samples = 1024
    for number in range(int(duration_sec * 44100) // samples):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, samples), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, number * samples, Fraction(1, 44100)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _rotate(path: Path, degrees: int) -> None:
    """Set the rotation in the track header's matrix, as phones do; the coded pictures stay as they are."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    matrix = at + (52 if data[at] else 40)
    sine, cosine = {90: (1, 0), 180: (0, -1), 270: (-1, 0)}[degrees]
    values = [cosine << 16, sine << 16, 0, -(sine << 16), cosine << 16, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


def num_open(folder: Path) -> int:
    """Files below a folder that this process has open."""
    links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum(link.startswith(str(folder)) for link in links)
