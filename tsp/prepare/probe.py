"""The metadata CSV of a folder of videos: what is really in the files, not what their headers claim."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tsp.data.video import VideoError
from tsp.data.video.inspect import VideoReport, inspect_video
from tsp.errors import DataError
from tsp.prepare.parallel import for_each
from tsp.prepare.tables import METADATA_COLUMNS, VideoFacts, write_table
from tsp.run.jobs import ProbeJob, job_from_dict

logger = logging.getLogger(__name__)

TRAINING_COPY_SUFFIX = ".train.mov"
"""Equal to ``tsp.data.video.training_copy.SUFFIX``, whose module loads torch."""
VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    )
)


@dataclass(frozen=True, slots=True)
class Probed:
    """One video: what it holds, or why it cannot be read."""

    filename: str
    report: VideoReport | None
    trouble: str = ""

    @property
    def facts(self) -> VideoFacts | None:
        """Its row of the metadata CSV; None for a video that cannot be used."""
        if self.report is None:
            return None
        return VideoFacts(self.filename, self.report.duration_sec, self.report.fps, self.report.num_frames)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do a probe job given as plain data; ``rows`` are the metadata rows, ``broken`` the videos left out of them."""
    parsed = job_from_dict("probe", job)
    assert isinstance(parsed, ProbeJob)
    folder = Path(parsed.videos)
    probed = probe_folder(folder, workers=parsed.workers)
    rows = [video.facts.row() for video in probed if video.facts is not None]
    if parsed.out is not None:
        write_table(Path(parsed.out), METADATA_COLUMNS, rows)
    broken = [{"filename": video.filename, "why": video.trouble} for video in probed if video.trouble]
    for item in broken:
        logger.warning("%s", item["why"])
    varying = [video.filename for video in probed if video.report is not None and not video.report.constant_rate]
    if varying:
        logger.warning(
            "%d videos have a varying frame rate (such as %s): run 'tspctl data standardize' first",
            len(varying),
            varying[0],
        )
    return {
        "rows": rows,
        "videos": len(rows),
        "out": parsed.out,
        "broken": broken,
        "exit_code": DataError.exit_code if broken else 0,
    }


def probe_folder(folder: Path, *, workers: int | None = None) -> list[Probed]:
    """Every video of a folder and the folders in it, sorted by name; names are relative to the folder.

    Raises: DataError if there is no folder or no video.
    """
    names = [path.relative_to(folder).as_posix() for path in find_videos(folder)]
    pairs = for_each(
        partial(_probe, folder),
        names,
        workers=workers or None,
        crashed=lambda name: Probed(name, None, f"{folder / name}: the decoder crashed on it"),
    )
    return sorted((probed for _, probed in pairs), key=lambda probed: probed.filename)


def find_videos(folder: Path) -> list[Path]:
    """All video files in a folder and the folders in it, sorted; hidden ones and training copies are left alone.

    Raises: DataError if there is none.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise DataError(f"the folder of videos {folder} does not exist")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES
        and not path.name.endswith(TRAINING_COPY_SUFFIX)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise DataError(f"{folder} holds no video files (*{', *'.join(sorted(VIDEO_SUFFIXES))})")
    return found


def _probe(folder: Path, name: str) -> Probed:
    try:
        report = inspect_video(folder / name)
    except VideoError as error:
        return Probed(name, None, str(error))
    return Probed(name, report, f"{folder / name}: {'; '.join(report.faults)}" if report.faults else "")
