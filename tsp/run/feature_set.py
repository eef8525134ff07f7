"""The description of a set of features: ``features.json`` in a folder of ``.npy`` files, ``<file>.json`` next to an H5.

Code that reads features must convert a feature's number to a time: feature ``i`` covers ``clip_frames`` frames from ``i
* stride_frames`` on, at ``rate_fps``; its middle is ``offset_frames`` later. Unknown values of a set published by
others are None.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tsp.errors import DataError
from tsp.store.files import folder_and_name

DESCRIPTION = "features.json"
MISSING_FILES = "missing_files.txt"
"""Ids of videos that have no features, one a line: OpenTAD's block list."""
H5_ENDINGS = (".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFeatures:
    """One video of a set."""

    features: int
    """Rows: T of [T, dimension]."""
    frames: int | None = None
    """Of the file."""
    fps: float | None = None
    """Of the file."""
    duration_sec: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSet:
    """The parameters and videos of a set of features."""

    rate_fps: float | None = None
    """Rate at which clips were sampled, whatever the files' own."""
    stride_frames: int | None = None
    """Frames (at ``rate_fps``) between the starts of two clips."""
    clip_frames: int | None = None
    dimension: int | None = None
    encoder: str | None = None
    checkpoint_sha256: str | None = None
    prefix: str = ""
    """Prefix of the file names (or H5 keys) before the video's name."""
    resized_to: int | None = None
    """Every video was resized to that many features, linearly over time."""
    videos: dict[str, VideoFeatures] = field(default_factory=dict)
    """By the video's name, as the metadata table has it."""
    missing: tuple[str, ...] = ()
    """Videos of the table that have no features: too short, or broken."""

    @property
    def offset_frames(self) -> int | None:
        """Frames (at ``rate_fps``) from a clip's start to its middle."""
        return None if self.clip_frames is None else self.clip_frames // 2

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as stored."""
        plain = dataclasses.asdict(self)
        videos = plain.pop("videos")
        return {**plain, "offset_frames": self.offset_frames, "videos": videos}

    @classmethod
    def from_dict(cls, raw: Any, *, where: str) -> FeatureSet:
        """From plain data; unknown keys are ignored.

        Raises: DataError if it describes no features.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        try:
            values = {key: value for key, value in raw.items() if key in known}
            kept = {item.name for item in dataclasses.fields(VideoFeatures)}
            videos = {
                name: VideoFeatures(**{key: value for key, value in facts.items() if key in kept})
                for name, facts in raw["videos"].items()
            }
            found = cls(**{**values, "videos": videos, "missing": tuple(raw.get("missing") or ())})
            _check_numbers(found)
            return found
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(
                f"{where} is not a description of features as 'tspctl extract' writes it: {error!r:.200}"
            ) from error


def _check_numbers(found: FeatureSet) -> None:
    """Raises: TypeError naming a value that is of another kind."""
    for name in ("rate_fps", "stride_frames", "clip_frames", "dimension", "resized_to"):
        value = getattr(found, name)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            raise TypeError(f"{name} is {value!r}")
    for name, facts in found.videos.items():
        if not isinstance(facts.features, int):
            raise TypeError(f"the number of features of {name} is {facts.features!r}")
    if not isinstance(found.prefix, str):
        raise TypeError(f"prefix is {found.prefix!r}")


def described_by(address: str) -> tuple[str, str]:
    """Folder and file name of the description of a set: an H5 file, a folder of ``.npy`` files, or the description."""
    folder, name = folder_and_name(address.rstrip("/"))
    if address.endswith(".json"):
        return folder, name
    return (folder, f"{name}.json") if address.endswith(H5_ENDINGS) else (address, DESCRIPTION)


def set_of(description: str) -> str:
    """The H5 file or folder that a description is of."""
    folder, name = folder_and_name(description)
    return folder if name == DESCRIPTION else description.removesuffix(".json")


def parse_description(data: bytes, *, where: str) -> FeatureSet | None:
    """A description from its file; None for one of an older version that has too little.

    Raises: DataError if it does not describe features.
    """
    try:
        raw: Any = json.loads(data)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    return None if isinstance(raw, dict) and "videos" not in raw else FeatureSet.from_dict(raw, where=where)


def file_stem(video: str, prefix: str) -> str:
    """Name of a video's file without its ending: the prefix comes before it unless it is there already."""
    return video if video.startswith(prefix) else prefix + video


def missing_files(missing: Iterable[str], prefix: str) -> bytes:
    """Content of ``missing_files.txt``: ids as annotations have them, without the prefix of files."""
    return "".join(f"{video.removeprefix(prefix)}\n" for video in missing).encode()


def refuse_shared_stems(videos: Iterable[str], prefix: str) -> None:
    """Refuse two videos whose features would be one file.

    Raises: DataError naming both.
    """
    seen: dict[str, str] = {}
    for video in videos:
        other = seen.setdefault(file_stem(video, prefix), video)
        if other != video:
            raise DataError(
                f"with --prefix {prefix}, the videos {other} and {video} would have the same file: rename one"
            )
