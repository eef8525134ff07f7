"""Keeps ``features convert`` from overwriting its source, or features of another set."""

from __future__ import annotations

import os

from tsp.config.jobs import FeaturesJob
from tsp.data.features import FeatureFile
from tsp.errors import ConfigError, DataError
from tsp.extract.feature_sources import read_description
from tsp.run.feature_set import H5_ENDINGS, FeatureSet, file_stem

SAME_SET = {
    "checkpoint_sha256": "encoder",
    "rate_fps": "rate",
    "stride_frames": "stride",
    "clip_frames": "clip length",
}
"""What two conversions of one set have in common, as far as it is known."""


def refuse_dest(job: FeaturesJob) -> None:
    """Raises: ConfigError if it is the source, or its name is of the other form, by which it could not be read."""
    assert job.dest is not None
    is_h5 = job.dest_format == "h5"
    if job.dest.endswith(H5_ENDINGS) is not is_h5:
        what, ends = ("an H5 file", "ends") if is_h5 else ("a folder of .npy files", "does not end")
        raise ConfigError(f"{job.dest} is to be {what}: give a DEST that {ends} in .h5")
    source, dest = (address if "://" in address else os.path.realpath(address) for address in (job.source, job.dest))
    if source.rstrip("/") == dest.rstrip("/"):
        raise ConfigError(f"SOURCE and DEST are both {job.source}: choose another DEST")


def refuse_other_set(job: FeaturesJob, known: FeatureSet, stems: set[str]) -> None:
    """Refuse to replace features of another encoder or of other videos, since SOURCE and DEST are easily confused.
    Args: known, the description of the source; stems, names of the outputs.
    Raises: ConfigError.
    """
    assert job.dest is not None
    there = read_description(job.dest, job.store)
    for name, what in SAME_SET.items():
        found, ours = getattr(there, name, None), getattr(known, name)
        if None not in (found, ours) and found != ours:
            raise ConfigError(f"{job.dest} contains features of another {what}, {found}: choose another DEST")
    held = _names_in_h5(job.dest) if there is None else {file_stem(video, there.prefix) for video in there.videos}
    if foreign := sorted(held - stems):
        raise ConfigError(f"{job.dest} contains features of {foreign[0]!r}, unlike {job.source}: choose another DEST")


def _names_in_h5(address: str) -> set[str]:
    """Of an H5 file on this machine; none if there is none that can be read."""
    if not address.endswith(H5_ENDINGS) or "://" in address or not os.path.exists(address):
        return set()
    try:
        with FeatureFile(address, where=address) as file:
            return set(file.names)
    except DataError:
        return set()
