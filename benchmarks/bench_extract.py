"""Time of decoding in feature extraction: CPU milliseconds (user and system) per clip.

    python -m benchmarks.bench_extract [--frames 1800] [--clips 30] [--source FOOTAGE.mp4 ...] [--folder .cache/bench]

The original reads each clip by itself, as the published system does, and makes float pixels of it; a sample of its
clips is timed, spread over the file. Ours decodes the file once and slides over it: the work of the decoding process
(decode, gather) and the time of the pipe to the encoder's process. The blend to float pixels runs on the GPU; the last
columns include it on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import torch

from benchmarks import original_reader
from benchmarks.bench_decode import CASES
from benchmarks.footage import FPS, standardised
from tsp.data.dataset_files import Videos
from tsp.data.tables import VideoFacts
from tsp.extract.decode import Chunk
from tsp.extract.pool import decode_videos, receive, send
from tsp.extract.slide_plan import SlidePlan
from tsp.extract.stream import normalised
from tsp.store.local import LocalStore

STRIDES = (1, 16)
TARGETS = {1: 100, 16: 7}
CPU = torch.device("cpu")


def main() -> int:
    """Measure and print one table; returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--clips", type=int, default=30, help="clips of the original that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="times that the file is slid over; the median counts")
    parser.add_argument("--source", type=Path, nargs="*", default=[])
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| video | stride | clips | original | ours | ratio | ours, blend on the CPU too | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    missed = []
    for case in CASES:
        path = standardised(
            arguments.folder, case.name, case.width, case.height, case.bit_rate, arguments.frames, arguments.source
        )
        for stride in STRIDES:
            row, ratio = measure(case.name, path, stride, arguments.frames, arguments.clips, arguments.rounds)
            print(row, flush=True)
            if ratio < TARGETS[stride]:
                missed.append(f"{case.name} at stride {stride}")
    print(f"\nCPU milliseconds a clip; targets: at least {TARGETS[1]}x at stride 1, {TARGETS[16]}x at stride 16")
    print(f"missed: {', '.join(missed)}" if missed else "all are met")
    return 1 if missed else 0


def measure(name: str, path: Path, stride: int, num_frames: int, num_sampled: int, rounds: int) -> tuple[str, float]:
    """One row of the table, and the ratio; the two take turns, so that a change of clock or load affects both."""
    video = VideoFacts(path.name, num_frames / FPS, float(FPS), num_frames)
    plan = SlidePlan(stride, 16, 15.0, pads_short=True)
    videos, starts_sec = Videos(LocalStore(path.parent)), plan.starts_sec(video)
    sampled = np.array(starts_sec)[np.linspace(0, len(starts_sec) - 1, num_sampled).astype(int)]
    original, beside_gpu, all_on_cpu = [], [], []
    for part in np.array_split(sampled, rounds):
        original.append(cpu_ms(partial(_original, path, part)) / len(part))
        beside_gpu.append(cpu_ms(partial(_slide, videos, video, plan)) / len(starts_sec))
        all_on_cpu.append(cpu_ms(partial(_slide, videos, video, plan, blend=True)) / len(starts_sec))
    base, ours, with_blend = (float(np.median(values)) for values in (original, beside_gpu, all_on_cpu))
    row = (
        f"| {name} | {stride} | {len(starts_sec)} | {base:.1f} | {ours:.2f} | {base / ours:.1f} | "
        f"{with_blend:.2f} | {base / with_blend:.1f} |"
    )
    return row, base / ours


def _original(path: Path, starts_sec: np.ndarray) -> None:
    for start_sec in starts_sec:
        # Half a microsecond later: floor(k / 30 / time base) would start some clips a frame early.
        original_reader.transform(original_reader.read_clip(path, float(start_sec) + 5e-7))


def _slide(videos: Videos, video: VideoFacts, plan: SlidePlan, *, blend: bool = False) -> None:
    for _, event in decode_videos(videos, [video], plan, workers=0):
        if isinstance(event, Chunk):
            arrived = _through_pipe(event)
            if blend:
                normalised(arrived, CPU)


def _through_pipe(chunk: Chunk) -> Chunk:
    ours, theirs = Pipe()
    sender = threading.Thread(target=send, args=(theirs, chunk))
    sender.start()
    arrived = receive(ours)
    sender.join()
    assert isinstance(arrived, Chunk)
    return arrived


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU time, user and system, of all threads."""
    begin = time.process_time()
    work()
    return (time.process_time() - begin) * 1e3


if __name__ == "__main__":
    sys.exit(main())
