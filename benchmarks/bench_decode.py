"""Time to read a clip: CPU milliseconds (user and system) of the original reader and of ours, in one run.

    python -m benchmarks.bench_decode [--clips 40] [--source FOOTAGE.mp4 ...] [--folder .cache/bench]

Readers take turns every few clips, so a change of clock speed or load affects all of them. MAD is the mean absolute
difference of the 128x171 frames' central crop from the float32 reference, in levels of 0-255.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from benchmarks import original_reader
from benchmarks.footage import FPS, standardised
from tsp.data.copy_name import training_copy_name
from tsp.data.pixel_plan import PixelPlan, central_crop, gather, plan_pixels, plan_resized
from tsp.data.transforms import STD, blend, normalise
from tsp.data.video import ClipReader, WantedFrame
from tsp.data.video.choose_stream import best_video_stream
from tsp.data.video.timeline import establish
from tsp.data.video.training_copy import write_training_copy

CLIP_SEC = 16 / 15

PER_SEGMENT = 5
OPENED = "ours, file opened each time"
BLOCK = 8
"""Clips that one reader reads before the next has its turn."""


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
    copy, raw = (path.with_name(training_copy_name(f"{path.stem}.{kind}.mp4")) for kind in ("mjpeg", "raw"))
    if not copy.exists():
        write_training_copy(path, copy, copy_format="mjpeg")
    if not raw.exists():
        write_training_copy(path, raw, copy_format="raw")
    rng = np.random.default_rng(1)
    starts = rng.uniform(0, duration_sec - CLIP_SEC, num_clips)
    groups = [
        segment + rng.uniform(0, case.segment_sec - CLIP_SEC, PER_SEGMENT)
        for segment in rng.uniform(0, duration_sec - case.segment_sec, num_clips)
    ]
    ways = _ways(path, copy, raw, starts, groups)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for block in range(0, num_clips, BLOCK):
        for way, (read, clips) in ways.items():
            # As in a data worker: collections look only at what reading makes. The original has no such thing.
            (gc.unfreeze if way == "original" else gc.freeze)()
            read(block)  # brings this reader's memory back into the processor's caches
            for i in range(block, min(block + BLOCK, num_clips)):
                begin = time.process_time()
                read(i)
                times[way].append((time.process_time() - begin) / clips * 1e3)
    exact, coded, rounded = (
        max(_difference(path, file, start, resized=file is not path) for start in starts[:5])
        for file in (path, copy, raw)
    )
    base = np.mean(times["original"])
    print(
        f"\n{case.name}: {path.name}; {num_clips} clips, segments of {case.segment_sec} s; kB a frame and MAD: "
        f"video {_kb(path, duration_sec)}, {exact:.5f}; mjpeg copy {_kb(copy, duration_sec)}, {coded:.2f}; "
        f"raw copy {_kb(raw, duration_sec)}, {rounded:.2f}\n"
    )
    print("| way | CPU ms a clip | ratio |\n|---|---|---|")
    for way, values in times.items():
        print(f"| {way} | {np.mean(values):.2f} | {base / np.mean(values):.2f} |", flush=True)
    own, opened = _establishing_ms(path, num_clips), float(np.mean(times[OPENED]))
    print(f"\nestablishing the file's times: {own:.3f} ms, {own / opened:.1%} of a clip ({OPENED}); aim: below 5 %")


def _ways(
    path: Path, copy: Path, raw: Path, starts: np.ndarray, groups: list[np.ndarray]
) -> dict[str, tuple[Callable[[int], object], int]]:
    """How the i-th clip, or segment, is read; and how many clips that is."""
    warm, cold, plain = ClipReader(), ClipReader(max_open=1), ClipReader(max_open=1, short_cuts=False)
    one_of = {file: [file, _other_name(file)] for file in (path, copy, raw)}
    return {
        "original": (lambda i: _original(path, starts[i]), 1),
        "ours, every frame decoded": (lambda i: _ours(plain, one_of[path][i % 2], [starts[i]]), 1),
        OPENED: (lambda i: _ours(cold, one_of[path][i % 2], [starts[i]]), 1),
        "ours, file kept open": (lambda i: _ours(warm, path, [starts[i]]), 1),
        "ours, one pass a segment": (lambda i: _ours(cold, one_of[path][i % 2], groups[i]), PER_SEGMENT),
        "mjpeg copy, opened each time": (lambda i: _ours(cold, one_of[copy][i % 2], [starts[i]], resized=True), 1),
        "mjpeg copy, kept open": (lambda i: _ours(warm, copy, [starts[i]], resized=True), 1),
        "mjpeg copy, one pass": (lambda i: _ours(warm, copy, groups[i], resized=True), PER_SEGMENT),
        "raw copy, opened each time": (lambda i: _ours(cold, one_of[raw][i % 2], [starts[i]], resized=True), 1),
        "raw copy, kept open": (lambda i: _ours(warm, raw, [starts[i]], resized=True), 1),
        "raw copy, one pass": (lambda i: _ours(warm, raw, groups[i], resized=True), PER_SEGMENT),
    }


def _establishing_ms(path: Path, rounds: int) -> float:
    """What it costs, when a file is opened, to learn when its frames are shown."""
    spent = 0.0
    for _ in range(rounds):
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = best_video_stream(container)
            assert stream is not None
            begin = time.process_time()
            establish(str(path), container, stream)
            spent += time.process_time() - begin
    return spent / rounds * 1e3


def _kb(path: Path, duration_sec: float) -> str:
    return f"{path.stat().st_size / 1000 / (duration_sec * FPS):.1f}"


def _other_name(path: Path) -> Path:
    """The same file under a second name: a reader that keeps one file open opens it anew each time they alternate."""
    other = path.with_name(f"again-{path.name}")
    other.unlink(missing_ok=True)
    os.link(path, other)
    return other


def _original(path: Path, start_sec: float) -> Tensor:
    return original_reader.transform(original_reader.read_clip(path, start_sec))


def _ours(
    reader: ClipReader, path: Path, starts_sec: Iterable[float], *, resized: bool = False
) -> tuple[np.ndarray, PixelPlan]:
    """What a data worker does: uint32 [clips, 16, S, S]."""
    side = 112 if resized else 224
    starts_sec = list(starts_sec)
    out = np.empty((len(starts_sec), 16, side, side), np.uint32)
    plan = index = None
    for frame in reader.frames(path, starts_sec):
        if plan is None or index is None:
            plan = _plan(frame, resized=resized)
            index = plan.crop_index() if resized else plan.source_index(frame.pixels.shape[1])
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
