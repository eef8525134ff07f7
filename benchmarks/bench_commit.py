"""CPU time of a training step compared with an older commit, with a second copy of that commit as the control.

    python -m benchmarks.bench_commit COMMIT [--backbone tiny r3d_18 r2plus1d_18] [--rounds N] [--variant "ours, fp32"]

Three processes, one thread each, take turns in ABCCBA order, one step per turn: new, old, old again. A ratio of new to
old is significant only if it is outside the range of old to old in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BACKBONES = {"tiny": 8, "r3d_18": 1, "r2plus1d_18": 1}
"""Encoder -> clips of a batch: steps of about a second."""
STEPPER = """
import sys, time
from pathlib import Path
import torch
try:
    from benchmarks import step_variants
    variants = step_variants.VARIANTS
except ImportError:  # what older commits call them
    from benchmarks import step_ways as step_variants
    variants = step_variants.WAYS
import tsp.train.step
backbone, batch, name, tree = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
for module in (step_variants, tsp.train.step):
    assert Path(module.__file__).is_relative_to(tree), module.__file__
torch.set_num_threads(1)
(variant,) = [variant for variant in variants if variant.name == name]
step = step_variants.make_step(backbone, step_variants.Shape(batch, 16, 112), variant, torch.device("cpu"))
for _ in range(3):
    step()
print("ready", flush=True)
for line in sys.stdin:
    started = time.process_time()
    step()
    print(time.process_time() - started, flush=True)
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="What a training step costs in CPU time beside an older commit.")
    parser.add_argument("commit")
    parser.add_argument("--backbone", nargs="*", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--variant", default="ours, fp32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder).resolve() / "theirs"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", theirs, arguments.commit], cwd=ROOT, check=True
        )
        try:
            print("| encoder, batch | theirs, CPU s a step | ours / theirs | theirs / theirs, the control |")
            print("|---|---|---|---|")
            for backbone in arguments.backbone:
                print(row(backbone, arguments.variant, arguments.rounds, theirs), flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", theirs], cwd=ROOT, check=True)


def row(backbone: str, variant: str, rounds: int, theirs: Path) -> str:
    """A row of the table: median and quartiles of the ratios of rounds."""
    batch = BACKBONES[backbone]
    steppers = [start(tree, backbone, batch, variant) for tree in (ROOT, theirs, theirs)]
    try:
        for stepper in steppers:
            said = stepper.stdout.readline() if stepper.stdout else ""
            if said != "ready\n":
                sys.exit(f"a stepper ended before its first step: {said!r}")
        spent = [one_round(steppers) for _ in range(rounds)]
    finally:
        for stepper in steppers:
            stepper.kill()
            stepper.wait()
    ours = [new / old for new, old, _ in spent]
    control = [again / old for _, old, again in spent]
    median_sec = statistics.median(old / 2 for _, old, _ in spent)
    return f"| {backbone}, {batch} | {median_sec:.3f} | {spread(ours)} | {spread(control)} |"


def start(tree: Path, backbone: str, batch: int, variant: str) -> subprocess.Popen[str]:
    """A process that makes a step of the code in ``tree`` for each line that it reads, and prints its CPU seconds."""
    command = [sys.executable, "-c", STEPPER, backbone, str(batch), variant, str(tree)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def one_round(steppers: list[subprocess.Popen[str]]) -> list[float]:
    """CPU seconds that each spent on its two steps of a round."""
    spent = [0.0] * len(steppers)
    order = list(range(len(steppers)))
    for index in [*order, *reversed(order)]:
        stepper = steppers[index]
        assert stepper.stdin is not None
        assert stepper.stdout is not None
        stepper.stdin.write("step\n")
        stepper.stdin.flush()
        spent[index] += float(stepper.stdout.readline())
    return spent


def spread(ratios: list[float]) -> str:
    """Median, and the quartiles in brackets."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


if __name__ == "__main__":
    main()
