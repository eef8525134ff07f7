"""``features convert`` and ``features info``: features in the format that other code reads, video by video."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tsp.config.job import Answer
from tsp.config.jobs import FeaturesJob
from tsp.data.features import write_arrays
from tsp.errors import ConfigError, DataError
from tsp.extract.feature_sources import NPY, Features, open_features, read_description
from tsp.run.feature_set import (
    DESCRIPTION,
    MISSING_FILES,
    FeatureSet,
    VideoFeatures,
    file_stem,
    missing_files,
    refuse_shared_stems,
)
from tsp.store.files import open_folder, writing

logger = logging.getLogger(__name__)


def run(job: FeaturesJob) -> Answer:
    """Run a features job: convert if it names a destination, else describe.

    Raises: DataError naming the video whose features cannot be read or used; ConfigError.
    """
    with open_features(job.source, job.store) as features:
        described = read_description(job.source, job.store)
        facts = _described(features, described, job.source)
        if job.dest is None:
            return Answer(facts=facts)
        _refuse_own_source(job.source, job.dest)
        return _convert(job, features, described, facts)


def _described(features: Features, described: FeatureSet | None, where: str) -> dict[str, Any]:
    """What a set holds; arrays of one dimension are vectors of whole videos."""
    shapes = [features.shape(name) for name in features.names]
    is_global = all(len(shape) == 1 for shape in shapes)
    dimensions = sorted({shape[-1] for shape in shapes if shape})
    lengths = [shape[0] for shape in shapes if len(shape) == 2]
    known = described or FeatureSet()
    return {
        "source": where,
        "holds": "one vector a video (GVF)" if is_global else "features [T, dimension] of every video",
        "videos": len(shapes),
        "features": sum(lengths),
        "fewest": min(lengths, default=None),
        "most": max(lengths, default=None),
        "dimension": dimensions[0] if len(dimensions) == 1 else str(dimensions),
        "rate_fps": known.rate_fps,
        "stride_frames": known.stride_frames,
        "clip_frames": known.clip_frames,
        "offset_frames": known.offset_frames,
        "resized_to": known.resized_to,
        "prefix": known.prefix or None,
        "encoder": known.encoder,
        "checkpoint_sha256": known.checkpoint_sha256,
    }


def _convert(job: FeaturesJob, features: Features, described: FeatureSet | None, facts: dict[str, Any]) -> Answer:
    assert job.dest is not None
    known = described or FeatureSet()
    video_of = {file_stem(video, known.prefix): video for video in known.videos}
    videos = {video_of.get(stem, stem): stem for stem in features.names}
    refuse_shared_stems(videos, job.prefix)
    written: dict[str, VideoFeatures] = {}

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for video, stem in videos.items():
            array = _clip_features(features.read(stem), stem, job.source)
            if job.resize is not None:
                array = resized(array, job.resize)
            before = known.videos.get(video, VideoFeatures(features=0))
            written[video] = replace(before, features=len(array))
            yield file_stem(video, job.prefix), array

    if job.dest_format == "h5":
        with writing(job.dest, job.store) as path:
            write_arrays(path, arrays())
        folder, _, name = job.dest.rpartition("/")
        beside, key = open_folder(folder or ".", job.store), f"{name}.json"
    else:
        beside, key = open_folder(job.dest, job.store), DESCRIPTION
        for stem, array in arrays():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            beside.write(stem + NPY, buffer.getvalue())
        beside.write(MISSING_FILES, missing_files(known.missing, job.prefix))
    description = replace(
        known,
        dimension=facts["dimension"],
        prefix=job.prefix,
        resized_to=job.resize or known.resized_to,
        videos=written,
    )
    beside.write(key, (json.dumps(description.to_dict(), indent=1) + "\n").encode())
    logger.info("%d videos written to %s", len(written), job.dest)
    total = sum(video.features for video in written.values())
    return Answer(facts={"dest": job.dest, "format": job.dest_format, "videos": len(written), "features": total})


def _clip_features(array: np.ndarray, name: str, where: str) -> np.ndarray:
    if array.ndim != 2 or not len(array):
        hint = ": a GVF file holds one vector a video, no features of clips" if array.ndim == 1 else ""
        raise DataError(f"{where}: {name!r} has shape {list(array.shape)}, not [T, dimension]{hint}")
    if not np.isfinite(array).all():
        raise DataError(f"{where}: the features of {name!r} hold NaN or infinite values: extract them again")
    return array


def resized(array_TF: np.ndarray, num_steps: int) -> np.ndarray:
    """Features at ``num_steps`` times spread over the video, interpolated linearly between neighbours, [num_steps, F].

    Steps have their middles at (i + 0.5) / num_steps of the video's length, as ActionFormer and OpenTAD resize.
    """
    length = len(array_TF)
    middles = np.clip((np.arange(num_steps) + 0.5) * (length / num_steps) - 0.5, 0, length - 1)
    left = np.floor(middles).astype(np.int64)
    weight = (middles - left).astype(np.float32)[:, None]
    right = np.minimum(left + 1, length - 1)
    mixed: np.ndarray = array_TF[left] * (1 - weight) + array_TF[right] * weight
    return mixed.astype(np.float32, copy=False)


def _refuse_own_source(source: str, dest: str) -> None:
    if source.rstrip("/") == dest.rstrip("/"):
        raise ConfigError(f"SOURCE and DEST are both {source}: choose another DEST")
