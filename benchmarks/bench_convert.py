"""What features cost in another form, beside copying the same bytes: wall seconds and CPU seconds of all threads.

    python -m benchmarks.bench_convert [--rows 1300000] [--rounds 3] [--sources plain.h5 npy] [--folder FOLDER]

1.3 million features are THUMOS14 at stride 1: 2.6 GB in each form. Sources: an H5 as published (gzip level 4, h5py's
chunks), one that is not compressed, as ``features convert`` writes it, and a folder of .npy files. A copy is
``shutil.copyfile`` of the source, which the kernel does by itself. Each conversion and its copy take turns; the
table gives each one's fastest. Ends with 1 if a conversion takes more than twice the copy's CPU time; beside a
published file the bytes are also inflated by zlib and dropped, and its conversion may take twice what both take
together. Without
--sources the last row is the end of an extraction: its parts into an H5 (gzip), or into a file a video, which may take
3 % more. Peak memory is the whole process's.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tsp.config.jobs import FeaturesJob
from tsp.data.features import write_arrays
from tsp.extract.convert import run
from tsp.extract.video_parts import VideoParts
from tsp.store.base import sha256_of
from tsp.store.local import LocalStore

SOURCES = ("published.h5", "plain.h5", "npy")
VIDEO_ROWS = 3150
"""Three and a half minutes, the mean of THUMOS14."""
DIMS = 512
TARGET = 2.0
MERGE_TARGET = 1.03


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
    print("| from | to | copy of the source: wall, CPU | ours | ratio, wall | ratio, CPU |\n|---|---|---|---|---|---|")
    met = [bench.row(source, dest) for source in arguments.sources for dest in ("out.h5", "out")]
    print(f"\npeak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB\n", flush=True)
    if arguments.sources == SOURCES:
        met.append(bench.merge_row())
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


class Bench:
    """The sources, made once, and what is measured on them."""

    def __init__(self, folder: Path, rows: int, rounds: int) -> None:
        self.folder, self.rows, self.rounds = folder, rows, rounds
        self.num_videos = -(-rows // VIDEO_ROWS)

    def row(self, source: str, dest: str) -> bool:
        """One conversion; whether it took at most twice the copy's CPU time."""

        def convert() -> None:
            run(FeaturesJob(source=str(self.folder / source), dest=str(self.folder / "work" / dest)))

        if source == "published.h5":
            copy, inflating, ours = self._alternate(lambda: self._copy(source), self._inflate, convert)
            print(
                f"| {source} | nothing: inflated by zlib | {copy} | {inflating} | {inflating.over(copy)} |", flush=True
            )
            limit_sec = TARGET * (copy.cpu + inflating.cpu)
        else:
            copy, ours = self._alternate(lambda: self._copy(source), convert)
            limit_sec = TARGET * copy.cpu
        to = "H5" if dest.endswith(".h5") else ".npy files"
        print(
            f"| {source} | {to} | {copy} | {ours} | {ours.over(copy)} |",
            flush=True,
        )
        return ours.cpu <= limit_sec

    def merge_row(self) -> bool:
        """Parts into files beside parts into an H5; whether files cost no more."""
        h5, npy = self._alternate(lambda: self._merge("h5"), lambda: self._merge("npy"))
        print(f"| parts | .npy files | H5: {h5} | {npy} | {npy.over(h5)} |", flush=True)
        return npy.cpu <= MERGE_TARGET * h5.cpu

    def _alternate(self, *ways: Callable[[], None]) -> list[Took]:
        took: list[list[Took]] = [[] for _ in ways]
        for _ in range(self.rounds):
            for way, found in zip(ways, took, strict=True):
                self._clean()
                wall, cpu = time.perf_counter(), time.process_time()
                way()
                found.append(Took(time.perf_counter() - wall, time.process_time() - cpu))
        return [Took(min(one.wall for one in found), min(one.cpu for one in found)) for found in took]

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

    def _merge(self, form: str) -> None:
        """What follows when the last video of an extraction is done."""
        shutil.copytree(
            self.folder / "npy", self.folder / "work" / "f.parts" / "done",
            copy_function=os.link, ignore=shutil.ignore_patterns("*.json", "*.txt"),
        )  # fmt: skip
        (self.folder / "work" / "f.parts" / "about.json").write_text("{}")
        store, names = (
            LocalStore(self.folder / "work"),
            sorted(path.stem for path in (self.folder / "npy").glob("*.npy")),
        )
        parts = VideoParts(store, "f", "h5" if form == "h5" else "npy")
        states = dict.fromkeys(names, "done")
        if form == "npy":
            parts.finish_files({name: name for name in names}, states, b"", {})  # type: ignore[arg-type]
            return
        h5 = self.folder / "work" / "merged.h5"
        write_arrays(h5, parts.arrays(names, states))  # type: ignore[arg-type]
        parts.finish(h5, sha256_of(h5), {})

    def _inflate(self) -> None:
        """All chunks of the published file, one after the other."""
        with h5py.File(self.folder / "published.h5") as file:
            for name in file:
                entry = file[name].id
                for number in range(entry.get_num_chunks()):
                    zlib.decompress(entry.read_direct_chunk(entry.get_chunk_info(number).chunk_offset)[1])

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
