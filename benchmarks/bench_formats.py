"""A whole extraction into one H5 file and into .npy files, alternating: wall and CPU seconds, npy over h5 in each pair.

    python -m benchmarks.bench_formats [--demo .demo/data] [--stride 2] [--rounds 8]

Each is the work of ``tspctl extract`` from table to description, with the tiny encoder, which takes the smallest share
of the time: with any other the two formats are closer. The first one alternates from round to round. Exits with 1 if
the median of npy / h5 in CPU time is over 1.03.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.bench_convert import cpu_sec
from tsp.config.jobs import ExtractJob
from tsp.extract.features import run
from tsp.model.heads import HeadSpec, TspModel

TARGET = 1.03


class Took(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


def main() -> int:
    """Measure and print; returns 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path(".demo/data"), help="what 'tspctl data demo' wrote")
    parser.add_argument("--metadata", default="demo_valid_metadata.csv")
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios: list[Took] = []
    with tempfile.TemporaryDirectory() as name:
        checkpoint = Path(name) / "epoch_0.pth"
        model = TspModel("tiny", [HeadSpec(label_column="action-label", num_classes=3)])
        torch.save({"model": model.state_dict(), "args": {"backbone": "tiny"}, "epoch": 0}, checkpoint)
        for number in range(-1, arguments.rounds):
            took = {
                form: extract(arguments, checkpoint, Path(name) / f"{number}-{form}", form)
                for form in (("h5", "npy") if number % 2 else ("npy", "h5"))
            }
            if number < 0:
                continue  # the first pair reads the videos from the disk
            ratios.append(Took(*(npy / h5 for npy, h5 in zip(took["npy"], took["h5"], strict=True))))
            print(f"h5 {took['h5'].wall:.2f} s, CPU {took['h5'].cpu:.2f} s; npy {took['npy'].wall:.2f} s, "
                  f"CPU {took['npy'].cpu:.2f} s; npy / h5 {ratios[-1].cpu:.3f} of CPU", flush=True)  # fmt: skip
    for what, values in (("wall", [one.wall for one in ratios]), ("CPU", [one.cpu for one in ratios])):
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        print(f"npy / h5, {what}: median {middle:.3f} (quartiles {low:.3f}-{high:.3f})")
    return 0 if float(np.median([one.cpu for one in ratios])) <= TARGET else 1


def extract(arguments: argparse.Namespace, checkpoint: Path, folder: Path, form: str) -> Took:
    """One extraction, from table to description."""
    metadata = arguments.demo / arguments.metadata
    job = ExtractJob(
        checkpoint=str(checkpoint), videos=str(arguments.demo / "valid"), metadata=str(metadata),
        out=str(folder / ("out.h5" if form == "h5" else "out")), format="h5" if form == "h5" else "npy",
        stride_frames=arguments.stride, workers=0,
    )  # fmt: skip
    wall, cpu = time.perf_counter(), cpu_sec()
    answer = run(job)
    took = Took(time.perf_counter() - wall, cpu_sec() - cpu)
    assert answer.exit_code == 0, answer
    return took


if __name__ == "__main__":
    sys.exit(main())
