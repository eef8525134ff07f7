"""The demo's videos as arithmetic: shapes over a textured ground, some of which perform an action for a while.

Everything about a video is random but reproducible: ground, shapes, colours, sizes, speeds, phases. An action is
defined by the motion of one shape; the kinds and positions of the shapes carry no information, so a single frame is not
enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

WIDTH_PX, HEIGHT_PX, FPS = 160, 120, 30
ACTIONS = ("Bouncing", "Pulsing", "Shaking")
"""One shape goes up and down, grows and shrinks, or goes left and right."""
BACKGROUND = "No action"
REGIONS = ("Action", BACKGROUND)

_NUM_SHAPES = 2
_RAMP_SEC = 0.15
_REACH = (1.0, 1.24, 1.18)
"""Radii from the middle of a circle, a square and a triangle to where they are farthest from it."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """An interval of a video, half-open, in seconds; label is one of ACTIONS or BACKGROUND."""

    start_sec: float
    end_sec: float
    label: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape's appearance and its steady drift; positions in pixels, the drift in pixels per second."""

    kind: int
    colour: Pixels
    contrast: Pixels
    radius_px: float
    angle: float
    start_xy: tuple[float, float]
    drift_xy: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Performance:
    """How the first shape of a segment acts."""

    segment: Segment
    rate_hz: float
    phase: float
    amplitude_px: float

    def offset_and_scale(self, time_sec: float) -> tuple[float, float, float]:
        """What the action adds to x and y, in pixels, and multiplies the radius by; nothing outside the segment."""
        segment = self.segment
        inside_sec = min(time_sec - segment.start_sec, segment.end_sec - time_sec)
        if segment.label == BACKGROUND or inside_sec <= 0:
            return 0.0, 0.0, 1.0
        wave = math.sin(2 * math.pi * self.rate_hz * time_sec + self.phase) * min(1.0, inside_sec / _RAMP_SEC)
        if segment.label == "Bouncing":
            return 0.0, self.amplitude_px * wave, 1.0
        if segment.label == "Shaking":
            return self.amplitude_px * wave, 0.0, 1.0
        return 0.0, 0.0, 1.0 + 0.55 * wave


def draw_timeline(rng: Generator, labels: list[str]) -> list[Segment]:
    """Segments end to end, one per label, each 1.4 to 2.1 s long on a grid of 0.1 s."""
    segments, start = [], 0
    for label in labels:
        end = start + int(rng.integers(14, 22))
        segments.append(Segment(start / 10, end / 10, label))
        start = end
    return segments


def draw_frames(rng: Generator, timeline: list[Segment]) -> Iterator[NDArray[np.uint8]]:
    """The video's frames, RGB uint8 [HEIGHT_PX, WIDTH_PX, 3], at FPS."""
    ground = _ground(rng)
    for segment in timeline:
        # Every segment is a separate shot on the video's background, with new random shapes and positions.
        shapes = _shapes(rng, segment)
        act = Performance(
            segment=segment,
            rate_hz=float(rng.uniform(1.6, 2.4)),
            phase=float(rng.uniform(0, 2 * math.pi)),
            amplitude_px=float(rng.uniform(15, 22)),
        )
        for index in range(round(segment.start_sec * FPS), round(segment.end_sec * FPS)):
            time_sec = index / FPS
            canvas = ground.copy()
            for shape in reversed(shapes):
                x, y = (
                    a + b * (time_sec - segment.start_sec) for a, b in zip(shape.start_xy, shape.drift_xy, strict=True)
                )
                dx, dy, scale = act.offset_and_scale(time_sec) if shape is shapes[0] else (0.0, 0.0, 1.0)
                _paint(canvas, shape, x + dx, y + dy, shape.radius_px * scale)
            yield np.clip(canvas, 0, 255).astype(np.uint8)


def _ground(rng: Generator) -> Pixels:
    """A soft random texture, larger than a frame by a margin on each side."""
    height, width = HEIGHT_PX, WIDTH_PX
    colour = rng.uniform(85, 140) + rng.uniform(-12, 12, 3)
    texture = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 14.0), (12, 10.0), (40, 5.0)):
        coarse = (rng.normal(0, strength, (cells, cells, 1)) + rng.normal(0, strength / 4, (cells, cells, 3))).astype(
            np.float32
        )
        rows = np.linspace(0, cells - 1.001, height)
        columns = np.linspace(0, cells - 1.001, width)
        texture += _stretched(_stretched(coarse, rows).swapaxes(0, 1), columns).swapaxes(0, 1)
    return np.clip(texture + colour, 0, 255).astype(np.float32)


def _stretched(values: Pixels, places: NDArray[np.float64]) -> Pixels:
    """Linear interpolation along the first axis at fractional positions."""
    whole = places.astype(int)
    share = (places - whole).astype(np.float32)[:, None, None]
    stretched: Pixels = values[whole] * (1 - share) + values[whole + 1] * share
    return stretched


def _shapes(rng: Generator, segment: Segment) -> list[Shape]:
    """Two shapes in the middle of the frame, inside the central crop of the validation. The first one has the kind of
    its action; in background it has any kind and only drifts."""
    side = rng.choice((-1, 1))
    shapes = []
    for number in range(_NUM_SHAPES):
        drift_xy = rng.uniform(-4.0, 4.0, 2) * (rng.random() < 0.7)
        start_x = WIDTH_PX / 2 + side * (1, -1)[number] * rng.uniform(16, 24)
        known = number == 0 and segment.label != BACKGROUND
        kind = ACTIONS.index(segment.label) if known else int(rng.integers(len(ACTIONS)))
        shapes.append(
            Shape(
                kind=kind,
                colour=_colour(rng, kind),
                contrast=rng.uniform(40, 90, 3).astype(np.float32) * rng.choice((-1, 1)),
                radius_px=float(rng.uniform(*((17, 23), (11, 15))[number])),
                angle=float(rng.uniform(0, 2 * math.pi)),
                start_xy=(float(start_x), float(HEIGHT_PX * rng.uniform(0.4, 0.6))),
                drift_xy=(float(drift_xy[0]), float(drift_xy[1])),
            )
        )
    return shapes


def _colour(rng: Generator, kind: int) -> Pixels:
    """A colour dominated by one channel, red, green or blue by the kind of shape, by a random amount."""
    colour = rng.uniform(30, 130, 3).astype(np.float32)
    colour[kind] = rng.uniform(170, 240)
    return colour


def _paint(canvas: Pixels, shape: Shape, x: float, y: float, radius: float) -> None:
    """Blend the shape into the canvas with an edge one pixel soft."""
    reach = math.ceil((radius + 0.5) * _REACH[shape.kind]) + 1
    top, bottom = max(0, int(y) - reach), min(HEIGHT_PX, int(y) + reach + 1)
    left, right = max(0, int(x) - reach), min(WIDTH_PX, int(x) + reach + 1)
    if top >= bottom or left >= right:
        return
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    dx = np.arange(left, right, dtype=np.float32) - np.float32(x)
    cos, sin = math.cos(shape.angle), math.sin(shape.angle)
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    if shape.kind == 0:
        distance = np.sqrt(u * u + v * v)
    elif shape.kind == 1:
        distance = np.maximum(np.abs(u), np.abs(v)) * 1.15
    else:
        distance = np.maximum(np.maximum(v, -0.5 * v + 0.866 * u), -0.5 * v - 0.866 * u) * 1.7
    cover = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    scale = np.float32(2 * math.pi / (0.62 * radius))
    wave = np.cos(distance * scale) if shape.kind == 0 else np.cos(u * scale)
    if shape.kind == 1:
        wave = wave * np.cos(v * scale)
    paint = shape.colour + shape.contrast * np.clip(2 * wave, -1, 1)[..., None]
    patch = canvas[top:bottom, left:right]
    patch += (paint - patch) * cover
