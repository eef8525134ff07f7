"""Videos to measure with: standardised as users' are (30 fps, an AAC track), from footage or drawn to look natural.

A file is made once and kept; its name contains its source and encoding, so that another ``--source`` never finds an old
file.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch.nn import functional

FPS = 30
DRAWN = 2
"""Increased when the drawn footage changes."""
SHOT_FRAMES = 150
NUM_SHAPES = 4


def standardised(
    folder: Path,
    name: str,
    width: int,
    height: int,
    bit_rate: int,
    num_frames: int,
    sources: list[Path],
    *,
    x264: Mapping[str, str] | None = None,
) -> Path:
    """The file in folder, made unless it is there; ``x264``, options beside x264's defaults (GOP 250, B-pyramid)."""
    options = {"threads": "2", **(x264 or {})}
    path = folder / f"{name}-{width}x{height}-{num_frames}-{_digest(sources, bit_rate, x264 or {})}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if "crf" not in options:
            stream.bit_rate = bit_rate
        audio = container.add_stream("aac", rate=44100, layout="stereo")
        for number, image in enumerate(itertools.islice(pictures(sources, width, height), num_frames)):
            image.pts, image.time_base, image.pict_type = number, Fraction(1, FPS), 0
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


def _digest(sources: list[Path], bit_rate: int, x264: Mapping[str, str]) -> str:
    """Of what a file is made."""
    made_of: list[object] = [
        f"{path.resolve()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sources
    ] or [DRAWN]
    return hashlib.sha256(repr((made_of, bit_rate, sorted(x264.items()))).encode()).hexdigest()[:10]


def pictures(sources: list[Path], width: int, height: int) -> Iterator[av.VideoFrame]:
    """Frames of the footage over and over, or of drawn shots."""
    while sources:
        for source in sources:
            with av.open(str(source)) as container:
                for frame in container.decode(container.streams.video[0]):
                    yield frame.reformat(width, height, "yuv420p", interpolation="BICUBIC")
    for shot in itertools.count():
        yield from _shot(np.random.default_rng(shot), width, height)


def _shot(rng: np.random.Generator, width: int, height: int) -> Iterator[av.VideoFrame]:
    """A camera that pans over a textured scene in which a few shaded things move, with a sensor's noise."""
    scene = _texture(rng, height + height // 2, width + width // 2)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    centres = rng.uniform(0.2, 0.8, (NUM_SHAPES, 2))
    radii = rng.uniform(0.06, 0.18, NUM_SHAPES) * height
    colours = rng.uniform(40, 215, (NUM_SHAPES, 3))
    speeds = rng.uniform(0.5, 2.0, (NUM_SHAPES, 2))
    for number in range(SHOT_FRAMES):
        share = number / SHOT_FRAMES
        row, column = int(share * height / 2), int((0.5 + 0.5 * np.sin(2 * np.pi * share)) * width / 2)
        image = scene[row : row + height, column : column + width].copy()
        for centre, radius, colour, speed in zip(centres, radii, colours, speeds, strict=True):
            middle = (centre + 0.15 * np.sin(2 * np.pi * speed * share)) * (height, width)
            near = tuple(slice(max(0, int(at - radius - 1)), max(0, int(at + radius + 3))) for at in middle)
            distance = np.hypot(rows[near] - middle[0], columns[near] - middle[1])
            cover = np.clip((radius - distance) / 2 + 0.5, 0, 1)[..., None]
            shade = (1 - 0.4 * np.clip(distance / radius, 0, 1))[..., None] * colour
            image[near] += cover * (shade - image[near])
        image += rng.normal(0, 1.5, (height, width, 1)).astype(np.float32)
        yield av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8)).reformat(format="yuv420p")


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth gradients and detail of all sizes, each half as strong as that of twice its size; float32 [H, W, 3]."""
    total = torch.zeros(1, 3, height, width)
    strength = 60.0
    for cells in (2, 4, 8, 16, 32, 64, 128):
        noise = torch.from_numpy(rng.normal(0, 1, (1, 3, cells, cells * 2)).astype(np.float32))
        noise = 0.7 * noise.mean(1, keepdim=True) * 3**0.5 + 0.3 * noise
        total += strength * functional.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)
        strength *= 0.55
    return (125 + total[0].permute(1, 2, 0)).numpy()
