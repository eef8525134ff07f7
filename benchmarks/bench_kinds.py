"""Compares frames, colours and times of kinds of video files with the ffmpeg program.

``python -m benchmarks.bench_kinds [--before FOLDER] [NAME...]`` prints a row for each kind of file: the results of the
reader and of ``standardize``, here and in another checkout that has its own ``.venv``.

- *frames*: a clip holds frames of the file in their order, evenly spaced, none lost, repeated or of another place.
- *times*: they are those on screen at the times asked for, where time 0 is where ffmpeg shows 0.
- *colours*: each frame is within 3 levels (mean over a frame and channel) of what ffmpeg shows.
- *standardize*: its output shows the frames that ffmpeg's own conversion to 30 fps shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests import ffmpeg
from tests.data.video.kinds import KINDS, MAX_COLOUR_ERROR, MORE_KINDS, colour_error, make_kind, oracle
from tests.videos import number_of

HERE = Path(__file__).resolve().parent.parent
LENGTH_FRAMES, RATE_FPS = 16, 15
BATCH = 8
"""Kinds of files made and read at a time."""
COLUMNS = ("frames", "times", "colours", "standardize")


class Verdict(NamedTuple):
    """A word for each column: yes, NO, or refused."""

    frames: str
    times: str
    colours: str
    standardize: str


def main() -> None:
    """Make the files, have them read, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, judged on the same files")
    parser.add_argument("names", nargs="*", help="only these kinds")
    options = parser.parse_args()
    names = options.names or [*KINDS, *MORE_KINDS]
    checkouts = [HERE] if options.before is None else [options.before.resolve(), HERE]
    print_header(with_before=options.before is not None)
    verdicts: list[list[Verdict]] = []
    for begin in range(0, len(names), BATCH):
        with tempfile.TemporaryDirectory() as folder:
            found = [judge(names[begin : begin + BATCH], Path(folder), checkout) for checkout in checkouts]
        for name in names[begin : begin + BATCH]:
            verdicts.append([of_checkout[name] for of_checkout in found])
            print(f"| {name} | {' | '.join(word for verdict in verdicts[-1] for word in verdict)} |", flush=True)
    columns = zip(*([word for verdict in row for word in verdict] for row in verdicts), strict=True)
    print(f"| right, of {len(verdicts)} | {' | '.join(str(column.count('yes')) for column in columns)} |")


def judge(names: Iterable[str], folder: Path, checkout: Path) -> dict[str, Verdict]:
    """A verdict for each kind of file."""
    tasks = {}
    for name in names:
        path = make_kind(name, folder)
        tasks[name] = {
            "path": str(path),
            "starts_sec": [oracle(name, path).times_sec[first] + 1e-4 for first in _firsts(name, path)],
            "clips": str(folder / f"{path.stem}-clips.npz"),
            "standardized": str(folder / f"{path.stem}-standardized.mp4"),
        }
    python = checkout / ".venv/bin/python"
    subprocess.run(
        [python, str(HERE / "benchmarks/kinds_reader.py")], cwd=checkout, check=True, text=True,
        env={**os.environ, "PYTHONPATH": str(checkout)}, stderr=subprocess.DEVNULL,
        input="".join(f"{json.dumps(task)}\n" for task in tasks.values()),
    )  # fmt: skip
    return {name: _verdict(name, Path(str(task["path"])), task) for name, task in tasks.items()}


def _offsets(name: str, path: Path) -> list[int]:
    """How many frames after its first each frame of a clip lies."""
    times = oracle(name, path).times_sec
    kind = {**KINDS, **MORE_KINDS}[name]
    fps = kind.fps or (len(times) - 1) / (times[-1] - times[0])
    return [int(k * fps / RATE_FPS + 1e-6) for k in range(LENGTH_FRAMES)]


def _firsts(name: str, path: Path) -> list[int]:
    """Frames at which clips begin."""
    last = len(oracle(name, path).times_sec) - 1 - _offsets(name, path)[-1]
    return sorted({min(max(0, last), first) for first in (0, 1, 7, last // 2, last)})


def _verdict(name: str, path: Path, task: Mapping[str, object]) -> Verdict:
    truth, offsets = oracle(name, path), _offsets(name, path)
    by_number = dict(zip(truth.numbers, truth.frames, strict=True))
    whole = [tuple(truth.numbers[i + o] for o in offsets) for i in range(len(truth.numbers) - offsets[-1])]
    frames, times, colours = [], [], []
    with np.load(str(task["clips"])) as clips:
        if any(key.startswith("refused") for key in clips):
            return Verdict("refused", "refused", "refused", _standardized(name, path, task))
        for number, first in enumerate(_firsts(name, path)):
            clip = clips[str(number)]
            got = tuple(number_of(image) for image in clip)
            frames.append(got in whole)
            times.append(got == whole[first])
            # By the place where it is right: two frames of a telecined film may show one number, one of them combed.
            truths = [truth.frames[first + o] for o in offsets] if times[-1] else [by_number.get(n) for n in got]
            colours += [
                shown is not None and shown.shape == image.shape and colour_error(image, shown)
                for shown, image in zip(truths, clip, strict=True)
            ]
    is_close = [error is not False and error <= MAX_COLOUR_ERROR for error in colours]
    return Verdict(_word(frames), _word(times), _word(is_close), _standardized(name, path, task))


def _word(right: Iterable[bool]) -> str:
    return "yes" if all(right) else "NO"


def _standardized(name: str, path: Path, task: Mapping[str, object]) -> str:
    written = Path(str(task["standardized"]))
    if not written.exists():
        return "refused"
    kind = {**KINDS, **MORE_KINDS}[name]
    wanted = ffmpeg.shown(path, filters="fps=30:start_time=0" if kind.filters_restart is False else "", upright=True)
    numbers = wanted.numbers
    if kind.is_delayed:
        numbers = numbers[round(ffmpeg.shown(path).times_sec[0] * 30) :]
    ours = ffmpeg.shown(written, upright=True).numbers
    both = min(len(ours), len(numbers))
    return _word([abs(len(ours) - len(numbers)) <= 1, ours[:both] == numbers[:both]])


def print_header(*, with_before: bool) -> None:
    """The head of a Markdown table."""
    columns = [
        f"{column} {when}".strip() for when in (("before", "now") if with_before else ("",)) for column in COLUMNS
    ]
    print(f"| kind of file | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}", flush=True)


if __name__ == "__main__":
    main()
