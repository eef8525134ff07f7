"""Time to convert features, compared with copying the same bytes: wall seconds and CPU seconds of all threads.

    python -m benchmarks.bench_convert [--rows 1300000] [--rounds 3] [--sources plain.h5 npy] [--folder FOLDER]

1.3 million features are THUMOS14 at stride 1: 2.6 GB in each form. Sources: an H5 as published (gzip level 4, h5py's
chunks), one that is not compressed, as ``features convert`` writes it, and a folder of .npy files. A copy is
``shutil.copyfile`` of the source, which the kernel does by itself. For the published file, the alternatives of users
are measured, too: a loop over h5py, and ``h5repack`` if it is installed. All take turns; the table shows each one's
fastest. Wall time ends when the bytes are on the disk. Exits with 1 if a conversion takes more than twice the wall time
of a copy, or, for the published file, which cannot be inflated as fast as it is copied, if it takes longer than the
loop. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tsp.config.jobs import FeaturesJob
from tsp.extract.convert import run

SOURCES = ("published.h5", "plain.h5", "npy")
VIDEO_ROWS = 3150
"""Three and a half minutes, the mean of THUMOS14."""
DIMS = 512
TARGET = 2.0


def main() -> int:
    """Measure and print one table; returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=325_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench-convert"))
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    arguments = parser.parse_args()
    bench = Bench(arguments.folder / str(arguments.rows), arguments.rows, arguments.rounds)
    bench.make(arguments.sources)
    print(f"{arguments.rows} features, {bench.num_videos} videos, {os.cpu_count()} CPUs")
    print("| from | to | what | wall, CPU | to the copy, wall | to the copy, CPU |\n|---|---|---|---|---|---|")
    met = [bench.row(source, dest) for source in arguments.sources for dest in ("out.h5", "out")]
    print(f"\npeak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB\n", flush=True)
    return 0 if all(met) else 1


class Took(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s, {self.cpu:.2f} s"

    def over(self, base: Took) -> str:
        """Ratios, as cells of the table."""
        return f"{self.wall / base.wall:.2f} | {self.cpu / base.cpu:.2f}"


def cpu_sec() -> float:
    """User and system time of this process and of the programs that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Bench:
    """The sources, made once, and what is measured on them."""

    def __init__(self, folder: Path, rows: int, rounds: int) -> None:
        self.folder, self.rows, self.rounds = folder, rows, rounds
        self.num_videos = -(-rows // VIDEO_ROWS)

    def row(self, source: str, dest: str) -> bool:
        """One conversion beside the copy and what else a user has; whether the target is met."""

        def convert() -> None:
            run(FeaturesJob(source=str(self.folder / source), dest=str(self.folder / "work" / dest)))

        programs: dict[str, Callable[[], None]] = {"copy": lambda: self._copy(source), "ours": convert}
        if source == "published.h5" and dest.endswith(".h5"):
            programs["h5py"] = self._by_h5py
            if shutil.which("h5repack"):
                programs["h5repack"] = self._by_h5repack
        took = self._alternate(programs)
        to = "H5" if dest.endswith(".h5") else ".npy files"
        for name, found in took.items():
            print(f"| {source} | {to} | {name} | {found} | {found.over(took['copy'])} |", flush=True)
        if source == "published.h5":
            return "h5py" not in took or took["ours"].wall <= took["h5py"].wall
        return took["ours"].wall <= TARGET * took["copy"].wall

    def _alternate(self, programs: dict[str, Callable[[], None]]) -> dict[str, Took]:
        took: dict[str, list[Took]] = {name: [] for name in programs}
        for _ in range(self.rounds):
            for name, program in programs.items():
                self._clean()
                wall, cpu = time.perf_counter(), cpu_sec()
                program()
                cpu = cpu_sec() - cpu
                self._settle()
                took[name].append(Took(time.perf_counter() - wall, cpu))
        return {
            name: Took(min(one.wall for one in found), min(one.cpu for one in found)) for name, found in took.items()
        }

    def _settle(self) -> None:
        """Wait until what was written is on the disk."""
        for path in (self.folder / "work").rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def _clean(self) -> None:
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        (self.folder / "work").mkdir()
        os.sync()

    def _copy(self, source: str) -> None:
        path = self.folder / source
        if path.is_file():
            shutil.copyfile(path, self.folder / "work" / source)
        else:
            shutil.copytree(path, self.folder / "work" / source, copy_function=shutil.copyfile)

    def _by_h5py(self) -> None:
        """What users write: read each data set, write it."""
        with h5py.File(self.folder / "published.h5") as file, h5py.File(self.folder / "work/out.h5", "w") as out:
            for name in file:
                out[name] = file[name][...]

    def _by_h5repack(self) -> None:
        source, dest = self.folder / "published.h5", self.folder / "work/out.h5"
        subprocess.run(["h5repack", "-f", "NONE", "-l", "CONTI", source, dest], check=True)

    def make(self, sources: Sequence[str]) -> None:
        """The sources, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            made = self.folder / f"made-{source}"
            if made.exists():
                continue
            if source == "npy":
                (self.folder / source).mkdir(exist_ok=True)
                for name, array in self._arrays():
                    np.save(self.folder / source / f"{name}.npy", array)
            else:
                how = {"compression": "gzip"} if source == "published.h5" else {}
                with h5py.File(self.folder / source, "w") as file:
                    for name, array in self._arrays():
                        file.create_dataset(name, data=array, **how)
            made.touch()

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Means of rectified activations: positive, and hardly compressible."""
        draw = np.random.default_rng(0)
        for index in range(self.num_videos):
            length = min(VIDEO_ROWS, self.rows - index * VIDEO_ROWS)
            yield f"video_{index:07d}", np.abs(draw.standard_normal((length, DIMS), np.float32))


if __name__ == "__main__":
    sys.exit(main())
