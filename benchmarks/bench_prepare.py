"""What making a data set costs: CPU milliseconds (user and system) a frame of standardising, copying and probing.

    python -m benchmarks.bench_prepare [--frames 900] [--source FOOTAGE.mp4 ...] [--folder .cache/bench]

The baseline of a training copy resizes whole frames in float32, as training on the video itself would have to.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from benchmarks.bench_decode import CASES
from benchmarks.footage import standardised
from tsp.data.video import training_copy
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
    torch.set_num_threads(1)
    made = arguments.folder / "made"
    made.mkdir(parents=True, exist_ok=True)
    print("| what | " + " | ".join(case.name for case in CASES) + " |\n|---|" + "---|" * len(CASES))
    ways: dict[str, Callable[[Path], object]] = {
        "standardize": lambda path: transcode(path, made / "video.mp4"),
        "training copy, mjpeg": lambda path: write_training_copy(path, made / "mjpeg.train.mov"),
        "training copy, mjpeg, whole frames resized": lambda path: _resizing_whole_frames(
            path, made / "whole.train.mov"
        ),
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


def _cost_ms(make: Callable[[Path], object], path: Path, num_frames: int) -> float:
    begin = time.process_time()
    make(path)
    return (time.process_time() - begin) / num_frames * 1e3


def _resizing_whole_frames(path: Path, target: Path) -> None:
    def resize(image_HWC: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
        whole = torch.from_numpy(image_HWC).permute(2, 0, 1)[None].float()
        small = torch.nn.functional.interpolate(whole, size=(height_px, width_px), mode="bilinear", align_corners=False)
        resized: np.ndarray = small[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
        return resized

    with mock.patch.object(training_copy, "resize_frame", resize):
        write_training_copy(path, target)


if __name__ == "__main__":
    main()
