"""Cost and benefit of the key-frame distance: size at equal quality, and CPU milliseconds per clip.

    python -m benchmarks.bench_gop [--clips 40] [--frames 1800] [--source FOOTAGE.mp4 ...]

All encodings are of the same frames at the same crf; ratios are against the published reader on the published encoding,
in one run. Single clips are drawn at random, one pass reads five clips of a segment, sequential a whole video's clips.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_decode import BLOCK, CASES, CLIP_SEC, PER_SEGMENT, Case, _original, _ours
from benchmarks.footage import FPS, standardised
from tsp.data.clips import extraction_starts_sec
from tsp.data.video import ClipReader
from tsp.data.video.sliding_clips import Slide
from tsp.data.video.transcode import RANDOM_ACCESS_X264

NO_PYRAMID = {"x264-params": "b-pyramid=none"}
ENCODINGS: dict[str, dict[str, str]] = {
    "published (250, pyramid)": {},
    "32, no pyramid": {"g": "32", **NO_PYRAMID},
    "16, no pyramid (ours)": dict(RANDOM_ACCESS_X264),
    "64, no pyramid": {"g": "64", **NO_PYRAMID},
}
CRF = "23"


def main() -> None:
    """Measure and print a table per size."""
    parser = argparse.ArgumentParser(description="What the distance of key frames costs and gains.")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--source", type=Path, nargs="*", default=[], help="footage to make the videos from")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--case", choices=[case.name for case in CASES])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for case in CASES:
        if given.case in (None, case.name):
            paths = {
                name: standardised(
                    given.folder, case.name, case.width, case.height, 0, given.frames, given.source,
                    x264={"crf": CRF, **options},
                )
                for name, options in ENCODINGS.items()
            }  # fmt: skip
            _measure(case, paths, given.clips, given.frames)


def _measure(case: Case, paths: dict[str, Path], num_clips: int, num_frames: int) -> None:
    rng = np.random.default_rng(1)
    duration_sec = num_frames / FPS
    starts = rng.uniform(0, duration_sec - CLIP_SEC, num_clips)
    groups = [
        begin + rng.uniform(0, case.segment_sec - CLIP_SEC, PER_SEGMENT)
        for begin in rng.uniform(0, duration_sec - case.segment_sec, num_clips)
    ]
    published = next(iter(paths.values()))
    reader = ClipReader()
    ways: dict[tuple[str, str], tuple[Callable[[int], object], int]] = {
        ("published reader", "single"): (
            lambda i: _original(published, starts[i]),
            1,
        )
    }

    def read_one(path: Path, i: int) -> object:
        return _ours(reader, path, [starts[i]])

    def read_segment(path: Path, i: int) -> object:
        return _ours(reader, path, groups[i])

    for name, path in paths.items():
        ways[name, "single"] = functools.partial(read_one, path), 1
        ways[name, "one pass"] = functools.partial(read_segment, path), PER_SEGMENT
    times: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for block in range(0, num_clips, BLOCK):
        for way, (read, clips) in ways.items():
            read(block)
            for i in range(block, min(block + BLOCK, num_clips)):
                begin = time.process_time()
                read(i)
                times[way].append((time.process_time() - begin) / clips * 1e3)
    base = float(np.mean(times["published reader", "single"]))
    size = published.stat().st_size
    print(f"\n{case.name}, crf {CRF}, {num_clips} clips; published reader on the published encoding: {base:.1f} ms\n")
    print("| key frames | size | single clip ms | ratio | one pass ms | ratio | sequential ms a clip |")
    print("|---|---|---|---|---|---|---|")
    for name, path in paths.items():
        single, together = (float(np.mean(times[name, kind])) for kind in ("single", "one pass"))
        print(
            f"| {name} | {path.stat().st_size / size:.2f} | {single:.1f} | {base / single:.1f} | {together:.1f} | "
            f"{base / together:.1f} | {_sequential_ms(path, num_frames):.2f} |",
            flush=True,
        )


def _sequential_ms(path: Path, num_frames: int) -> float:
    """All clips of a video at stride 16, each frame decoded once."""
    starts = extraction_starts_sec(num_frames, FPS, stride_frames=16, length_frames=16, rate_fps=15.0)
    begin = time.process_time()
    slide = Slide(path, starts)
    for _ in slide.frames():
        pass
    slide.close()
    return (time.process_time() - begin) / len(starts) * 1e3


if __name__ == "__main__":
    main()
