"""Many schedules at once: ``python -m tests.simulation.many --schedules 100000 [--first SEED] [--workers N]``.

Prints the seeds that fail and what did not hold; ``--first SEED --schedules 1`` plays one again.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence

from tests.simulation.local_schedule import LocalSchedule
from tests.simulation.schedule import Schedule, play
from tests.simulation.stand_ins import many_schedules

LOCAL_SHARE = 5
"""Every fifth schedule is one of machines of users, the others are of pods."""

SAY_EVERY = 1000
SHARE = 20
"""How many are played at a time."""


def play_many(seeds: Sequence[int]) -> dict[int, str | None]:
    """Play the schedules of these seeds. Returns: for each what did not hold, None if all did."""
    with many_schedules():
        return {seed: play_any(seed) for seed in seeds}


def play_any(seed: int) -> str | None:
    """Play the schedule of a seed. Returns: what did not hold, None if all did."""
    return play(seed, LocalSchedule if seed % LOCAL_SHARE == 0 else Schedule)


def main() -> int:
    """Returns: 1 if a schedule failed."""
    parser = argparse.ArgumentParser(description="Play many schedules of the simulation.")
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.schedules)
    began, num_failed = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(arguments.workers, maxtasksperchild=100) as pool:
        shares = (seeds[at : at + SHARE] for at in range(0, len(seeds), SHARE))
        for seed, failure in itertools.chain.from_iterable(found.items() for found in pool.imap(play_many, shares)):
            if failure is not None:
                num_failed += 1
                print(f"seed {seed}: {failure}", flush=True)
            if (seed + 1) % SAY_EVERY == 0:
                print(f"up to seed {seed}: {num_failed} failed", file=sys.stderr, flush=True)
    took_sec = time.monotonic() - began
    print(f"{len(seeds)} schedules in {took_sec:.0f} s, {num_failed} failed")
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
