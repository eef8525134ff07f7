"""Time of an evaluation: CPU milliseconds (user and system) per clip of the original's pass and of ours, in one run.

    python -m benchmarks.bench_evaluate [--clips 20] [--frames 750] [--source FOOTAGE.mp4 ...] [--folder .cache/bench]

The original reads each clip by itself, makes float pixels of its whole frames, and runs batches of 32 through the model
in fp32. Ours is ``tspctl evaluate`` in one process. Both use the tiny encoder: a GPU computes the same in both, and
with a GPU decoding is the bottleneck. Exits with 1 unless ours is at least three times as fast with 720p files as
``data standardize`` makes them.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import original_reader
from benchmarks.bench_decode import CASES, Case
from benchmarks.bench_extract import cpu_ms
from benchmarks.footage import FPS, standardised
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import RunConfig
from tsp.data.loader import load_subset
from tsp.data.video.transcode import RANDOM_ACCESS_X264
from tsp.train.evaluation_share import evaluate_share
from tsp.train.training_state import build_model

TARGET = 3.0
COLUMNS = ("filename", "t-start", "t-end", "video-duration", "action-label", "fps", "video-frames")
DATASET = """\
name: bench
train: {csv: table.csv, videos: .}
valid: {csv: table.csv, videos: .}
labels: {action-label: labels.json}
"""


def main() -> int:
    """Measure and print one table; returns 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=750)
    parser.add_argument("--source", type=Path, nargs="*", default=[])
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| video | key frames | original | ours | ratio |\n|---|---|---|---|---|")
    met = True
    for case in CASES:
        for name, x264 in (("as x264 sets them", {}), ("at least every 16 frames", RANDOM_ACCESS_X264)):
            path = standardised(
                arguments.folder, case.name, case.width, case.height, case.bit_rate, arguments.frames,
                arguments.source, x264=x264,
            )  # fmt: skip
            original_ms, ours_ms = measure(case, path, arguments.clips, arguments.frames)
            ratio = original_ms / ours_ms
            print(f"| {case.name} | {name} | {original_ms:.1f} | {ours_ms:.1f} | {ratio:.1f} |", flush=True)
            met &= case.name != "720p" or not x264 or ratio >= TARGET
    return 0 if met else 1


def measure(case: Case, path: Path, num_clips: int, num_frames: int) -> tuple[float, float]:
    """CPU milliseconds a clip of the original's pass and of ours, on the same clips."""
    with tempfile.TemporaryDirectory() as name:
        config = make_dataset(Path(name), case, path, num_clips, num_frames)
        data = load_subset(config, "valid")
        model = build_model(config.model, data.num_classes, seed=0).eval()
        items = len(data.segments) * config.clips.per_segment
        starts_sec = [
            segment.start_sec + share * (segment.end_sec - segment.start_sec - config.clips.duration_sec)
            for share in np.linspace(0, 1, config.clips.per_segment)
            for segment in map(data.segments.__getitem__, range(len(data.segments)))
        ]

        def original() -> None:
            batch = config.batch_per_gpu
            for at in range(0, items, batch):
                clips = [
                    # Half a microsecond later: floor(k / 30 / time base) would start some clips a frame early.
                    original_reader.transform(original_reader.read_clip(path, start + 5e-7))
                    for start in starts_sec[at : at + batch]
                ]
                with torch.no_grad():
                    model(torch.stack(clips))[0].argmax(1)

        cpu = torch.device("cpu")
        return cpu_ms(original) / items, cpu_ms(lambda: evaluate_share(config, data, model, cpu, 0, 1)) / items


def make_dataset(folder: Path, case: Case, path: Path, num_clips: int, num_frames: int) -> RunConfig:
    """A table of segments of the case's length, spread over the video."""
    duration_sec, per_segment = num_frames / FPS, 5
    (folder / path.name).symlink_to(path.resolve())
    (folder / "labels.json").write_text(json.dumps(["one", "other"]))
    (folder / "dataset.yaml").write_text(DATASET)
    begins = np.linspace(0, duration_sec - case.segment_sec - 1, max(1, num_clips // per_segment))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for begin in begins:
            end = begin + case.segment_sec
            writer.writerow([path.name, begin, end, duration_sec, "one", FPS, num_frames])
    overrides = {"model.backbone": "tiny", "model.precision": "fp32", "data.workers": 0}
    return resolve(
        load_dataset(str(folder / "dataset.yaml")), "tac", name="bench", store={"uri": str(folder)}, root=str(folder),
        overrides=overrides,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
