"""What a clip costs: CPU milliseconds (user and system) of the original's way and of ours, in one run.

    python -m benchmarks.bench_decode [--clips 40] [--source FOOTAGE.mp4 ...] [--folder .cache/bench]

Ways are interleaved clip by clip, so a change of clock speed or load meets all of them. MAD is the mean absolute
difference of the 128x171 frames' central crop from the float32 reference, in levels of 0-255.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import original_reader
from benchmarks.footage import FPS, standardised
from tsp.data.transforms import STD, PixelPlan, blend, central_crop, gather, normalise, plan_pixels, plan_resized
from tsp.data.video import ClipReader, WantedFrame
from tsp.data.video.training_copy import training_copy_name, write_training_copy

CLIP_SEC = 16 / 15

CLIPS_PER_SEGMENT = 5


@dataclass(frozen=True)
class Case:
    """A standardised video, and how long segments of such videos are."""

    name: str
    width: int
    height: int
    bit_rate: int
    segment_sec: float
    """Median of the published training tables: THUMOS14 for 180p, ActivityNet for 720p."""


CASES = (Case("180p", 320, 180, 252_000, 4.4), Case("720p", 1280, 720, 2_000_000, 19.8))


def main() -> None:
    """Measure and print a table per size."""
    parser = argparse.ArgumentParser(description="What a clip costs, the original's way and ours.")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--source", type=Path, nargs="*", default=[], help="footage to make the videos from")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--case", choices=[case.name for case in CASES])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case in CASES:
        if arguments.case in (None, case.name):
            path = standardised(
                arguments.folder, case.name, case.width, case.height, case.bit_rate, arguments.frames, arguments.source
            )
            measure(case, path, arguments.clips, arguments.frames / FPS)


def measure(case: Case, path: Path, num_clips: int, duration_sec: float) -> None:
    """Print the table of one file."""
    copy = path.with_name(training_copy_name(path.name))
    if not copy.exists():
        write_training_copy(path, copy)
    rng = np.random.default_rng(1)
    starts = rng.uniform(0, duration_sec - CLIP_SEC, num_clips)
    groups = [
        segment + rng.uniform(0, case.segment_sec - CLIP_SEC, CLIPS_PER_SEGMENT)
        for segment in rng.uniform(0, duration_sec - case.segment_sec, num_clips)
    ]
    warm, warm_copy = ClipReader(), ClipReader()
    ways: dict[str, tuple[Callable[[int], object], int]] = {
        "original": (lambda i: _original(path, starts[i]), 1),
        "ours, every frame decoded": (lambda i: _ours(ClipReader(short_cuts=False), path, [starts[i]]), 1),
        "ours, file opened each time": (lambda i: _ours(ClipReader(), path, [starts[i]]), 1),
        "ours, file kept open": (lambda i: _ours(warm, path, [starts[i]]), 1),
        "ours, one pass a segment": (lambda i: _ours(ClipReader(), path, groups[i]), CLIPS_PER_SEGMENT),
        "training copy, opened each time": (lambda i: _ours(ClipReader(), copy, [starts[i]], resized=True), 1),
        "training copy, kept open": (lambda i: _ours(warm_copy, copy, [starts[i]], resized=True), 1),
        "training copy, one pass": (lambda i: _ours(ClipReader(), copy, groups[i], resized=True), CLIPS_PER_SEGMENT),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for i in range(num_clips):
        for way, (read, clips) in ways.items():
            begin = time.process_time()
            read(i)
            times[way].append((time.process_time() - begin) / clips * 1e3)
    exact, coded = (
        max(_difference(path, file, start, resized=file is copy) for start in starts[:5]) for file in (path, copy)
    )
    base = np.mean(times["original"])
    print(
        f"\n{case.name}: {path.name}, {path.stat().st_size / 1e6:.1f} MB, its training copy "
        f"{copy.stat().st_size / 1e6:.1f} MB; {num_clips} clips, segments of {case.segment_sec} s; "
        f"MAD {exact:.5f}, training copy {coded:.2f}\n"
    )
    print("| way | CPU ms a clip | ratio |\n|---|---|---|")
    for way, values in times.items():
        print(f"| {way} | {np.mean(values):.2f} | {base / np.mean(values):.2f} |", flush=True)


def _original(path: Path, start_sec: float) -> Tensor:
    return original_reader.transform(original_reader.read_clip(path, start_sec))


def _ours(
    reader: ClipReader, path: Path, starts_sec: Sequence[float], *, resized: bool = False
) -> tuple[np.ndarray, PixelPlan]:
    """What a data worker does: uint32 [clips, 16, S, S]."""
    side = 112 if resized else 224
    out = np.empty((len(starts_sec), 16, side, side), np.uint32)
    plan = index = None
    for frame in reader.frames(path, starts_sec):
        if plan is None or index is None:
            plan = _plan(frame, resized=resized)
            index = plan.source_index(frame.pixels.shape[1])
        gather(frame.pixels, index, out[frame.clip, frame.k])
    assert plan is not None
    return out, plan


def _plan(frame: WantedFrame, *, resized: bool) -> PixelPlan:
    crop = central_crop(128, 171, 112)
    if resized:
        return plan_resized(resize_width_px=171, crop_px=112, crop=crop)
    return plan_pixels(
        frame.pixels.shape[0], frame.width, resize_height_px=128, resize_width_px=171, crop_px=112, crop=crop
    )


def _difference(path: Path, file: Path, start_sec: float, *, resized: bool) -> float:
    """MAD between what the device makes of our pixels and the original's float pixels, in levels of 0-255."""
    out, plan = _ours(ClipReader(), file, [start_sec], resized=resized)
    pixels = torch.from_numpy(out.view(np.uint8).reshape(*out.shape, 4))
    weights = (torch.from_numpy(weight)[None] for weight in (plan.row_weights, plan.column_weights))
    ours = normalise(pixels[..., :3].float()) if resized else blend(pixels, *weights)
    scale = torch.tensor(STD).view(3, 1, 1, 1) * 255
    return float(((ours[0] - _original(path, start_sec)).abs() * scale).mean())


if __name__ == "__main__":
    main()
