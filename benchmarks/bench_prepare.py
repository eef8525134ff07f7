"""Time to prepare a data set: CPU milliseconds (user and system) per frame, compared with only decoding the video.

python -m benchmarks.bench_prepare [--frames 900] [--source FOOTAGE.mp4 ...] [--folder .cache/bench]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import av

from benchmarks.bench_decode import CASES
from benchmarks.footage import standardised
from tsp.data.video.inspect import inspect_video
from tsp.data.video.training_copy import write_training_copy
from tsp.data.video.transcode import transcode


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description="What making a data set costs.")
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--source", type=Path, nargs="*", default=[])
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    arguments = parser.parse_args()
    made = arguments.folder / "made"
    made.mkdir(parents=True, exist_ok=True)
    print("| what | " + " | ".join(case.name for case in CASES) + " |\n|---|" + "---|" * len(CASES))
    ways: dict[str, Callable[[Path], object]] = {
        "decoding alone": _decode,
        "standardize": lambda path: transcode(path, made / "video.mp4"),
        "training copy, mjpeg": lambda path: write_training_copy(path, made / "mjpeg.train.mov"),
        "training copy, raw": lambda path: write_training_copy(path, made / "raw.train.mov", copy_format="raw"),
        "probe": inspect_video,
    }
    paths = [
        standardised(
            arguments.folder, case.name, case.width, case.height, case.bit_rate, arguments.frames, arguments.source
        )
        for case in CASES
    ]
    for what, make in ways.items():
        print(f"| {what} | " + " | ".join(f"{_cost_ms(make, path, arguments.frames):.2f}" for path in paths) + " |")


def _decode(path: Path) -> None:
    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass


def _cost_ms(make: Callable[[Path], object], path: Path, num_frames: int) -> float:
    begin = time.process_time()
    make(path)
    return (time.process_time() - begin) / num_frames * 1e3


if __name__ == "__main__":
    main()
