"""Training on the demo from videos and from each kind of training copy: validation accuracy, time and storage.

    python -m benchmarks.bench_quality [--seeds 42 ...] [--epochs 4] [--ranks 2] [--folder .cache/quality]

Runs ``tspctl submit`` on this machine, as ``make demo`` does, on the same clips with the same seeds, read from
different files. Random guessing gives 42 % on average.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tsp.config.jobs import CopyFormat, DemoJob
from tsp.data.copy_name import training_copy_name
from tsp.data.video.training_copy import write_training_copy
from tsp.prepare.demo import draw_demo

VIDEO_FOLDERS = ("train", "valid")
MIB = 1 << 20


@dataclass(frozen=True)
class Trained:
    """One run."""

    avg_accuracy: float
    """Percent, of the best epoch."""
    head_accuracies: list[float]
    seconds: float
    """From submit to the end of the last epoch."""


def main() -> None:
    """Train from each kind of file and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(".cache/quality"))
    arguments = parser.parse_args()
    roots = prepare(arguments.folder.absolute())
    runs = arguments.folder.absolute() / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    trained: dict[str, list[Trained]] = {kind: [] for kind in roots}
    for seed in arguments.seeds:
        for kind, root in roots.items():
            is_copy = kind in get_args(CopyFormat)
            trained[kind].append(train(root, runs, f"{kind}-{seed}", seed, arguments.epochs, arguments.ranks, is_copy))
            print(f"{kind}, seed {seed}: {trained[kind][-1]}", file=sys.stderr)
    print(f"\nthe demo, {arguments.epochs} epochs, {arguments.ranks} ranks, seeds {arguments.seeds}\n")
    print(
        "| read from | Avg Accuracy % | action % | region % | seconds a run | videos MiB |\n|---|---|---|---|---|---|"
    )
    for kind, runs in trained.items():
        print(f"| {kind} | {_cells(runs)} | {_size_mib(roots[kind]):.1f} |")


def prepare(folder: Path) -> dict[str, Path]:
    """The demo's data set by what its clips are read from; drawn and copied unless it is there."""
    roots = {"h264": folder / "h264"}
    if not (roots["h264"] / "done").exists():
        draw_demo(roots["h264"], DemoJob(dest=str(roots["h264"])))
        (roots["h264"] / "done").touch()
    for copy_format in get_args(CopyFormat):
        roots[copy_format] = folder / copy_format
        if not (roots[copy_format] / "done").exists():
            shutil.rmtree(roots[copy_format], ignore_errors=True)
            shutil.copytree(roots["h264"], roots[copy_format], ignore=shutil.ignore_patterns("*.mp4", "done"))
            for name in VIDEO_FOLDERS:
                for video in sorted((roots["h264"] / name).glob("*.mp4")):
                    target = roots[copy_format] / name / training_copy_name(video.name)
                    write_training_copy(video, target, copy_format=copy_format)
            (roots[copy_format] / "done").touch()
    return roots


def train(root: Path, runs: Path, name: str, seed: int, epochs: int, ranks: int, is_copy: bool) -> Trained:
    """One run of the demo by the program itself."""
    tspctl = str(Path(sys.executable).with_name("tspctl"))
    env = {**os.environ, "TSPCTL_BACKEND": "local", "TSPCTL_STORE": str(runs / "store"), "TSPCTL_DATA": str(root)}
    # apart from what this machine remembers of the user's own runs, which `tspctl list` shows
    env["XDG_STATE_HOME"] = str(runs / "state")
    options = ["--dataset", "demo", "--method", "tsp", "--gpus", str(ranks), "--name", name, "--epochs", str(epochs)]
    options += ["--set", f"seed={seed}", "--set", f"data.training_copy={str(is_copy).lower()}"]
    begin = time.monotonic()
    subprocess.run([tspctl, "submit", *options, "--follow"], env=env, stdout=sys.stderr, check=True)
    seconds = time.monotonic() - begin
    shown = subprocess.run([tspctl, "results", name, "-o", "json"], env=env, capture_output=True, text=True, check=True)
    results = json.loads(shown.stdout)
    best = next(row for row in results["epochs"] if row["epoch"] == results["best_epoch"])
    heads = [head["accuracy_percent"] for head in best["heads"]]
    return Trained(best["avg_accuracy_percent"], heads, seconds)


def _cells(runs: list[Trained]) -> str:
    columns = [[run.avg_accuracy for run in runs], *zip(*(run.head_accuracies for run in runs), strict=True)]
    accuracies = [f"{statistics.mean(column):.1f} ({min(column):.1f}-{max(column):.1f})" for column in columns]
    return " | ".join([*accuracies, f"{statistics.mean(run.seconds for run in runs):.0f}"])


def _size_mib(root: Path) -> float:
    videos = [path for name in VIDEO_FOLDERS for path in (root / name).iterdir()]
    return sum(path.stat().st_size for path in videos) / MIB


if __name__ == "__main__":
    main()
