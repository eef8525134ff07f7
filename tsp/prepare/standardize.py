"""Any videos to constant-rate MP4 files, in parallel; a stopped job goes on where it was."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tsp.data.clips import exact_rate
from tsp.data.video import VideoError
from tsp.data.video.transcode import transcode
from tsp.errors import DataError
from tsp.prepare.parallel import for_each
from tsp.prepare.probe import TRAINING_COPY_SUFFIX, find_videos
from tsp.run.jobs import CopyFormat, StandardizeJob, job_from_dict

logger = logging.getLogger(__name__)

CopyStatus = Literal["written", "replaced", "there already"]
"""``replaced``: there was one in another format."""


@dataclass(frozen=True, slots=True)
class Standardized:
    """What became of one input."""

    source: str
    """Relative to the source folder."""
    file: str
    """Relative to the destination."""
    status: Literal["written", "there already", "broken"]
    num_frames: int | None = None
    why: str = ""
    training_copy: CopyStatus | None = None
    """None where there is none to write."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do a standardize job given as plain data; ``rows`` list the videos, ``broken`` counts those not written."""
    parsed = job_from_dict("standardize", job)
    assert isinstance(parsed, StandardizeJob)
    results = standardize(parsed)
    broken = sum(item.status == "broken" for item in results)
    return {
        "rows": [_row(item, with_copy=parsed.training_copy is not None) for item in results],
        "dest": parsed.dest,
        **({"training_copy": parsed.training_copy} if parsed.training_copy else {}),
        "videos": len(results),
        "broken": broken,
        "exit_code": DataError.exit_code if broken else 0,
    }


def _row(item: Standardized, *, with_copy: bool) -> dict[str, Any]:
    row = {"video": item.source, "status": item.status, "frames": item.num_frames, "why": item.why}
    return row | ({"training_copy": item.training_copy} if with_copy else {})


def standardize(job: StandardizeJob) -> list[Standardized]:
    """Write every video of the source (of this shard) to the destination; broken inputs are reported, not fatal.

    Raises: DataError if there is no video, or two would be written to the same file.
    """
    source = Path(job.source)
    root = source if source.is_dir() else source.parent
    tasks = _plan(find_videos(source), root, Path(job.dest))
    if job.shard is not None:
        tasks = share_of(tasks, job.shards, job.shard)
    pairs = for_each(partial(_do, job, root), tasks, workers=job.workers or None, crashed=partial(_crashed, root))
    results = sorted((result for _, result in pairs), key=lambda result: result.source)
    for result in results:
        if result.status == "broken":
            logger.warning("%s", result.why)
    return results


def share_of(tasks: list[tuple[Path, Path]], shards: int, shard: int) -> list[tuple[Path, Path]]:
    """The tasks of one shard: the largest files are dealt first, each to the shard that has the fewest bytes."""
    sized = sorted(tasks, key=lambda task: (-task[0].stat().st_size, str(task[0])))
    bytes_of, mine = [0] * shards, []
    for task in sized:
        lightest = bytes_of.index(min(bytes_of))
        bytes_of[lightest] += task[0].stat().st_size
        if lightest == shard:
            mine.append(task)
    return mine


def _plan(videos: list[Path], root: Path, dest: Path) -> list[tuple[Path, Path]]:
    """Source and target of each video; folders inside the source are kept."""
    sources: dict[Path, Path] = {}
    for path in videos:
        target = dest / path.relative_to(root).with_suffix(".mp4")
        if target in sources:
            raise DataError(f"{sources[target]} and {path} would both be written to {target}: rename one of them")
        if target.resolve() == path.resolve():
            raise DataError(f"{path} would be written over itself: give another destination")
        sources[target] = path
    return [(path, target) for target, path in sources.items()]


def _do(job: StandardizeJob, root: Path, task: tuple[Path, Path]) -> Standardized:
    path, target = task
    name, file = path.relative_to(root).as_posix(), target.relative_to(job.dest).as_posix()
    num_frames: int | None = None
    status: Literal["written", "there already"] = "there already"
    copied: CopyStatus | None = None
    try:
        if job.overwrite or not target.exists():
            # A copy of another file's frames would train wrongly: it goes first, whatever happens next.
            target.with_suffix(TRAINING_COPY_SUFFIX).unlink(missing_ok=True)
            num_frames, status = _transcode(job, path, target), "written"
        if job.training_copy is not None:
            copied = _copy_for_training(target, job.training_copy)
    except VideoError as error:
        return Standardized(name, file, "broken", None, str(error))
    return Standardized(name, file, status, num_frames, training_copy=copied)


def _transcode(job: StandardizeJob, path: Path, target: Path) -> int:
    return transcode(
        path,
        target,
        fps=exact_rate(job.fps),
        crf=job.crf,
        max_height_px=job.max_height_px,
        keep_audio=job.keep_audio,
    )


def _copy_for_training(target: Path, copy_format: CopyFormat) -> CopyStatus:
    # Loads torch, which nothing else here needs.
    from tsp.data.video.training_copy import format_of_copy, write_training_copy

    copy = target.with_suffix(TRAINING_COPY_SUFFIX)
    was_there = copy.exists()
    if was_there and format_of_copy(copy) == copy_format:
        return "there already"
    write_training_copy(target, copy, copy_format=copy_format)
    return "replaced" if was_there else "written"


def _crashed(root: Path, task: tuple[Path, Path]) -> Standardized:
    path, target = task
    return Standardized(
        path.relative_to(root).as_posix(), target.name, "broken", None, f"{path}: the decoder crashed on it"
    )
