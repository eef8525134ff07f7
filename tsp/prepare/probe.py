"""The metadata CSV of a folder of videos, from the content of the files, not from their headers."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from tsp.config.job import Answer
from tsp.config.jobs import ProbeJob
from tsp.data.tables import METADATA_COLUMNS, VideoFacts, write_table
from tsp.data.video import VideoError
from tsp.data.video.inspect import VideoReport, inspect_video
from tsp.errors import DataError
from tsp.prepare.find_videos import find_videos
from tsp.prepare.parallel import for_each
from tsp.store.base import Store
from tsp.store.files import writing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Probed:
    """One video: its properties, or why it cannot be read."""

    filename: str
    report: VideoReport | None
    trouble: str = ""

    @property
    def facts(self) -> VideoFacts | None:
        """Its row of the metadata CSV; None for a video that cannot be used."""
        if self.report is None:
            return None
        return VideoFacts(self.filename, self.report.duration_sec, self.report.fps, self.report.num_frames)


def run(job: ProbeJob) -> Answer:
    """Do a probe job; ``rows`` are the metadata rows, ``broken`` the videos left out of them."""
    probed = probe_videos(*find_videos(job.videos, job.store), workers=job.workers)
    rows = [video.facts.row() for video in probed if video.facts is not None]
    if job.out is not None:
        with writing(job.out, job.store) as path:
            write_table(path, METADATA_COLUMNS, rows)
    broken = [{"filename": video.filename, "why": video.trouble} for video in probed if video.trouble]
    for item in broken:
        logger.warning("%s", item["why"])
    for video in probed:
        for remark in video.report.remarks if video.report is not None else ():
            logger.warning("%s: %s", video.filename, remark)
    return Answer(
        rows=rows,
        facts={"videos": len(rows), "out": job.out, "broken": broken},
        exit_code=DataError.exit_code if broken else 0,
    )


def probe_videos(source: Store, names: Iterable[str], *, workers: int | None = None) -> list[Probed]:
    """Inspect these videos; sorted by name."""
    pairs = for_each(partial(_probe, source), list(names), workers=workers or None, crashed=partial(_crashed, source))
    return sorted((probed for _, probed in pairs), key=lambda probed: probed.filename)


def _probe(source: Store, name: str) -> Probed:
    with source.reading(name) as path:
        try:
            report = inspect_video(path)
        except VideoError as error:
            return Probed(name, None, str(error).replace(str(path), source.address(name)))
    return Probed(name, report, f"{source.address(name)}: {'; '.join(report.faults)}" if report.faults else "")


def _crashed(source: Store, name: str) -> Probed:
    return Probed(name, None, f"{source.address(name)}: the decoder crashed on it")
