"""Convert any videos to constant-rate MP4 files, in parallel; a stopped job continues where it was."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tsp.config.job import Answer
from tsp.config.jobs import CopyFormat, StandardizeJob
from tsp.data.clips import exact_rate
from tsp.data.copy_name import training_copy_name
from tsp.data.video import VideoError
from tsp.data.video.transcode import RANDOM_ACCESS_X264, Transcoded, transcode
from tsp.errors import DataError
from tsp.prepare.find_videos import find_videos
from tsp.prepare.parallel import for_each
from tsp.prepare.provenance import HEAD_BYTES, is_whole, made_by, maker_of
from tsp.store.atomic import remove_abandoned
from tsp.store.base import Store
from tsp.store.files import open_folder
from tsp.store.local import LocalStore

logger = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255
"""Of any common file system."""

CopyStatus = Literal["written", "replaced", "there already"]
"""``replaced``: there was one in another format, or a truncated one."""


FileStatus = Literal["written", "replaced", "there already"]
"""``replaced``: there was one that other options made, or another source, or a truncated one."""


@dataclass(frozen=True, slots=True)
class Standardized:
    """The outcome for one input."""

    source: str
    """Relative to the source."""
    file: str
    """Relative to the destination."""
    status: FileStatus | Literal["broken"]
    num_frames: int | None = None
    why: str = ""
    """Problems: why nothing was written, or what was lost or is doubtful in the output."""
    training_copy: CopyStatus | None = None
    """None where there is none to write."""


def run(job: StandardizeJob) -> Answer:
    """Do a standardize job; ``rows`` list the videos, ``broken`` counts those not written."""
    results = standardize(job)
    broken = sum(item.status == "broken" for item in results)
    copy = {"training_copy": job.training_copy} if job.training_copy else {}
    return Answer(
        rows=[_row(item, with_copy=job.training_copy is not None) for item in results],
        facts={"dest": job.dest, **copy, "videos": len(results), "broken": broken},
        exit_code=DataError.exit_code if broken else 0,
    )


def _row(item: Standardized, *, with_copy: bool) -> dict[str, Any]:
    row = {"video": item.source, "status": item.status, "frames": item.num_frames, "why": item.why}
    return row | ({"training_copy": item.training_copy} if with_copy else {})


def standardize(job: StandardizeJob) -> list[Standardized]:
    """Write every video of the source (of this shard) to the destination; broken inputs are reported, not fatal.

    Raises: DataError if there is no video, or two would be written to the same file.
    """
    source, sizes_bytes = find_videos(job.source, job.store)
    dest = open_folder(job.dest, job.store)
    if isinstance(dest, LocalStore):
        remove_abandoned(dest.root, below=True)
    files = _plan(source, dest, sizes_bytes)
    names = list(files)
    if job.shard is not None:
        names = share_of(sizes_bytes, names, job.shards, job.shard)
    pairs = for_each(
        partial(_do, job, source, dest),
        [(name, files[name]) for name in names],
        workers=job.workers or None,
        crashed=partial(_crashed, source),
    )
    results = sorted((result for _, result in pairs), key=lambda result: result.source)
    for result in results:
        if result.why:
            logger.warning("%s", result.why)
    return results


def share_of(sizes_bytes: Mapping[str, int], names: Sequence[str], shards: int, shard: int) -> list[str]:
    """The videos of one shard: the largest files are assigned first, each to the shard with the fewest bytes."""
    bytes_of, mine = [0] * shards, []
    for name in sorted(names, key=lambda name: (-sizes_bytes[name], name)):
        lightest = bytes_of.index(min(bytes_of))
        bytes_of[lightest] += sizes_bytes[name]
        if lightest == shard:
            mine.append(name)
    return mine


def _plan(source: Store, dest: Store, names: Iterable[str]) -> dict[str, str]:
    """The output file of each video. Subfolders of the source are kept; a destination inside the source is not read."""
    inside = dest.real_uri.removeprefix(source.real_uri) if dest.real_uri.startswith(source.real_uri) else ""
    made_of: dict[str, list[str]] = {}
    for name in names:
        if inside and name.startswith(inside):
            continue
        file = str(Path(name).with_suffix(".mp4"))
        if source.real_uri + name == dest.real_uri + file:
            raise DataError(f"{source.address(name)} would overwrite itself: give another destination")
        made_of.setdefault(file, []).append(name)
    clashes = [
        f"{' and '.join(source.address(name) for name in names)} would both be written to {dest.address(file)}"
        for file, names in made_of.items()
        if len(names) > 1
    ]
    if clashes:
        raise DataError(f"{'; '.join(clashes)}: rename all but one of each")
    return {names[0]: file for file, names in made_of.items()}


def _do(job: StandardizeJob, source: Store, dest: Store, task: tuple[str, str]) -> Standardized:
    name, file = task
    num_frames: int | None = None
    copied: CopyStatus | None = None
    try:
        if too_long := _names_too_long(file, with_copy=job.training_copy is not None):
            raise DataError(f"{source.address(name)}: {too_long}")
        maker = made_by(job, source, name)
        status, why = _state(job, source, dest, task, maker)
        with ExitStack() as stack:
            target: Path | None = None
            if status != "there already":
                # A training copy of other frames would train wrongly: delete it first, whatever happens next.
                if not _names_too_long(file, with_copy=True):
                    dest.delete(training_copy_name(file))
                target = stack.enter_context(dest.writing(file))
                made = _transcode(job, source, name, target, maker)
                num_frames = made.num_frames
                if made.lost:
                    why = f"{source.address(name)} was salvaged: {'; '.join(made.lost)}"
                elif made.notes:
                    why = f"{source.address(name)}: {'; '.join(made.notes)}"
            if job.training_copy is not None:
                copied = _copy_for_training(dest, file, target, job.training_copy)
    except DataError as error:
        return Standardized(name, file, "broken", None, str(error))
    return Standardized(name, file, status, num_frames, why, training_copy=copied)


def _names_too_long(file: str, *, with_copy: bool) -> str:
    """Describes the output name that is too long for a file system; empty if none is."""
    longest = Path(training_copy_name(file) if with_copy else file).name
    num_bytes = len(os.fsencode(longest))
    if num_bytes <= _MAX_NAME_BYTES:
        return ""
    return (
        f"the name of its output {longest} would have {num_bytes} bytes, but {_MAX_NAME_BYTES} are allowed: shorten it"
    )


def _state(
    job: StandardizeJob, source: Store, dest: Store, task: tuple[str, str], maker: str
) -> tuple[FileStatus, str]:
    """What to do with a file, and a description of any doubts."""
    name, file = task
    if job.overwrite or not dest.exists(file):
        return "written", ""
    made = maker_of(dest, file)
    whole = is_whole(dest, file)
    if (made is not None and (made != maker or not whole)) or not dest.stat(file).size_bytes:
        return "replaced", ""
    if not whole:
        raise DataError(
            f"{dest.address(file)} exists, but is truncated, and its origin is unknown: delete it, or let --overwrite "
            f"make it again from {source.address(name)}"
        )
    if made is None:
        return "there already", (
            f"{dest.address(file)} exists, but its origin is unknown, so it was kept: --overwrite makes it again from "
            f"{source.address(name)}"
        )
    return "there already", ""


def _transcode(job: StandardizeJob, source: Store, name: str, target: Path, maker: str) -> Transcoded:
    with source.reading(name) as path:
        try:
            return transcode(
                path,
                target,
                fps=exact_rate(job.fps),
                crf=job.crf,
                max_height_px=job.max_height_px,
                keep_audio=job.keep_audio,
                x264=RANDOM_ACCESS_X264 if job.gop == "short" else {},
                salvage=job.salvage,
                comment=maker,
            )
        except VideoError as error:
            raise VideoError(str(error).replace(str(path), source.address(name))) from error


def _copy_for_training(dest: Store, file: str, target: Path | None, copy_format: CopyFormat) -> CopyStatus:
    """Make the training copy unless it exists; ``target`` is the file itself if it has just been made."""
    # Loads torch, which nothing else here needs.
    from tsp.data.video.training_copy import format_of_copy, write_training_copy

    copy = training_copy_name(file)
    was_there = dest.exists(copy)
    if was_there:
        with dest.reading(copy, head_bytes=HEAD_BYTES) as beginning:
            if format_of_copy(beginning) == copy_format and is_whole(dest, copy):
                return "there already"
    with ExitStack() as stack:
        made_of = target or stack.enter_context(dest.reading(file))
        write_training_copy(made_of, stack.enter_context(dest.writing(copy)), copy_format=copy_format)
    return "replaced" if was_there else "written"


def _crashed(source: Store, task: tuple[str, str]) -> Standardized:
    name, file = task
    return Standardized(name, file, "broken", None, f"{source.address(name)}: the decoder crashed on it")
