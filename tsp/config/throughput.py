"""Clips per second that the data path delivers and that a training step needs: a table of measurements, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tsp.config.backbones import BACKBONES, Backbone
from tsp.config.cpus import auto_workers
from tsp.config.run import DataConfig

MS_PER_CLIP = {
    # what is read, one pass a segment -> CPU milliseconds of a 16-frame clip from 320x180 and from 1280x720
    ("h264", False): (20.7, 175.0),
    ("h264", True): (7.9, 116.0),
    ("copy", False): (2.0, 1.9),
    ("copy", True): (1.5, 1.8),
}
"""Source: tsp/data/README.md, Measured; ``copy`` is the mjpeg training copy."""
BUSY_SHARE = 0.1
"""A loop that spends more than this share of its time waiting for data is short of data."""

HALF_TFLOPS = (
    ("H200", 989.0), ("H100", 989.0), ("GH200", 989.0), ("B200", 2250.0), ("B100", 1750.0), ("A100", 312.0),
    ("A800", 312.0), ("A30", 165.0), ("A40", 150.0), ("A10", 125.0), ("L40", 181.0), ("L4", 121.0), ("V100", 125.0),
    ("T4", 65.0), ("RTX-4090", 165.0), ("RTX-3090", 71.0), ("GB200", 2500.0), ("H800", 989.0), ("H20", 148.0),
    ("L20", 119.0), ("RTX-A6000", 155.0), ("RTX-5090", 209.0),
)  # fmt: skip
"""Part of a product's name -> dense bf16 or fp16 peak. Source: NVIDIA's data sheets."""
SHARE_OF_PEAK = 0.15
"""Share of the peak that a step reaches: 320 clips/s of r2plus1d_34 on an H200. Computed, not measured."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Clips per second and rank."""

    data: float
    step: float
    text: str

    @property
    def is_short(self) -> bool:
        """Whether the data path delivers less than a step consumes."""
        return self.data < (1 - BUSY_SHARE) * self.step


def workers_of(data: DataConfig, cpus: float) -> int:
    """Data workers of a rank with that many CPUs."""
    return auto_workers(cpus) if data.workers is None else data.workers


def data_clips_per_sec(data: DataConfig, *, cpus: float) -> float:
    """Clips per second that a rank's data workers decode."""
    small, large = MS_PER_CLIP["copy" if data.training_copy else "h264", data.one_pass]
    # Between the two measured sizes, and beyond them, decoding costs as much as there are pixels.
    share = (data.height_px**2 - 180**2) / (720**2 - 180**2)
    milliseconds = max(0.5 * small, small + share * (large - small))
    return 1000 * min(max(workers_of(data, cpus), 1), cpus) / milliseconds


def step_clips_per_sec(backbone: Backbone, gpu_name: str) -> float | None:
    """Clips per second that a GPU trains on in half precision; None for a card that is not in the table."""
    name = gpu_name.upper().replace(" ", "-")
    if "-MIG-" in name or name.endswith("-SHARED"):
        return None  # a slice of a card, or of its time
    for part, tflops in HALF_TFLOPS:
        # A10G and L40S are of the family; RTX A1000 is no A100, T400 no T4.
        if re.search(rf"(?<![A-Z0-9]){part}(?![0-9])", name):
            return 1000 * tflops * SHARE_OF_PEAK / BACKBONES[backbone].step_gflop_per_clip
    return None


def forecast(data: DataConfig, backbone: Backbone, *, gpu_name: str, cpus: float) -> Forecast | None:
    """Whether the data path will keep the GPU busy; None for a card that is not in the table."""
    needed = step_clips_per_sec(backbone, gpu_name)
    if needed is None:
        return None
    given = data_clips_per_sec(data, cpus=cpus)
    what = "the training copy" if data.training_copy else f"{data.height_px}p H.264"
    workers = workers_of(data, cpus)
    text = (
        f"{what} provides about {given:.0f} clips/s per rank with {workers} workers; {backbone} on {gpu_name} "
        f"needs about {needed:.0f} (computed)"
    )
    if given < (1 - BUSY_SHARE) * needed:
        text += f": {cure(data, cpus=cpus)}"
    return Forecast(given, needed, text)


def cure(data: DataConfig, *, cpus: float) -> str:
    """What makes the data path faster, the most effective first."""
    ways = []
    if not data.training_copy:
        ways.append("write training copies (tspctl data standardize --training-copy) and read them (--training-copy)")
    if not data.one_pass:
        ways.append("decode a segment's clips in one pass (--one-pass)")
    workers = workers_of(data, cpus)
    if workers < int(cpus) - (data.workers is None):
        ways.append(f"use more data workers (--workers {int(cpus)}, now {workers})")
    else:
        ways.append(f"give each rank more CPUs (now {cpus:g}) and as many data.workers")
    return ", or ".join(ways)
