"""``features convert`` and ``features info``: features in the format that other code reads, video by video."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tsp.config.cpus import usable_cpus
from tsp.config.job import Answer
from tsp.config.jobs import FeaturesJob
from tsp.data.features import PlainH5
from tsp.errors import ConfigError, DataError
from tsp.extract.ahead import map_ahead
from tsp.extract.destinations import refuse_dest, refuse_other_set
from tsp.extract.feature_sources import NPY, Features, open_features, read_description
from tsp.extract.raw_floats import begin_writeback, copy_floats, is_finite, write_at
from tsp.run.feature_set import (
    DESCRIPTION,
    MISSING_FILES,
    FeatureSet,
    VideoFeatures,
    file_stem,
    missing_files,
    refuse_shared_stems,
)
from tsp.store.atomic import new_file
from tsp.store.base import Store
from tsp.store.files import folder_and_name, open_folder, writing
from tsp.wording import counted, counted_is, first_few

logger = logging.getLogger(__name__)

REQUESTS_AT_A_TIME = 8
"""To S3, one a video."""


def run(job: FeaturesJob) -> Answer:
    """Run a features job: convert if it names a destination, else describe.

    Raises: DataError naming the video whose features cannot be read or used; ConfigError.
    """
    with open_features(job.source, job.store) as features:
        described = read_description(job.source, job.store)
        if job.dest is None:
            return Answer(facts=_described(features, described, job.source))
        refuse_dest(job)
        return _Conversion(job, job.dest, features, described or FeatureSet()).run()


def _described(features: Features, described: FeatureSet | None, where: str) -> dict[str, Any]:
    """What a set holds; arrays of one dimension are vectors of whole videos."""
    shapes = list(map_ahead(features.shape, features.names, threads=num_threads(where)))
    if described is not None and described.videos:
        found = {stem: shape[0] for stem, shape in zip(features.names, shapes, strict=True) if len(shape) == 2}
        report_contradictions(described, found, where)
    warn_if_transposed([shape for shape in shapes if len(shape) == 2], described, where)
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


def report_contradictions(described: FeatureSet, found: Mapping[str, int], where: str) -> None:
    """Warn if a description and the features next to it do not match.

    Args: found, number of features by the name they are stored under.
    """
    said = {file_stem(video, described.prefix): facts.features for video, facts in described.videos.items()}
    absent = sorted(said.keys() - found.keys())
    unknown = sorted(found.keys() - said.keys())
    other = sorted(stem for stem in said.keys() & found.keys() if said[stem] != found[stem])
    for stems, what in (
        (absent, "missing that its description lists"),
        (unknown, "not in its description"),
        (other, "described with another number of features"),
    ):
        if stems:
            logger.warning("%s: %s %s: %s", where, counted_is(len(stems), "video"), what, first_few(stems))


def warn_if_transposed(shapes: Sequence[tuple[int, ...]], known: FeatureSet | None, where: str) -> None:
    """Warn if arrays of somebody else are probably [dimension, T]: all of one length, which is the larger number."""
    is_ours = known is not None and known != FeatureSet()
    if not is_ours and len(shapes) > 1 and len(set(shapes)) == 1 and shapes[0][0] > shapes[0][1]:
        length, dimension = shapes[0]
        logger.warning(
            "%s: all %d videos have %d features of %d numbers: if these are %d numbers at %d times, transpose them",
            where, len(shapes), length, dimension, length, dimension,
        )  # fmt: skip


def num_threads(*addresses: str) -> int:
    """Videos to work on at a time: inflating and copying keep a CPU busy each, requests wait.

    One more than there are CPUs, for a disk that is waited for; with more, they only take turns with the interpreter.
    """
    busy = usable_cpus() + 1
    return max(busy, REQUESTS_AT_A_TIME) if any(address.startswith("s3://") for address in addresses) else busy


@dataclass
class _Conversion:
    """One set on its way to another form."""

    job: FeaturesJob
    dest: str
    features: Features
    known: FeatureSet
    written: dict[str, VideoFeatures] = field(default_factory=dict)
    dimensions: dict[int, str] = field(default_factory=dict)
    """Size of a feature -> the first video that has it."""

    def run(self) -> Answer:
        """Write everything, the description last."""
        video_of = {file_stem(video, self.known.prefix): video for video in self.known.videos}
        videos = {video_of.get(stem, stem): stem for stem in self.features.names}
        refuse_shared_stems(videos, self.job.prefix)
        refuse_other_set(self.job, self.known, {file_stem(video, self.job.prefix) for video in videos})
        beside, key = self._write_h5(videos) if self.job.dest_format == "h5" else self._write_files(videos)
        shapes = [(facts.features, next(iter(self.dimensions))) for facts in self.written.values()]
        if self.job.resize is None:
            warn_if_transposed(shapes, self.known, self.job.source)
        description = replace(
            self.known,
            dimension=next(iter(self.dimensions)),
            prefix=self.job.prefix,
            resized_to=self.job.resize or self.known.resized_to,
            videos=self.written,
        )
        if self.known.videos:
            lengths = {stem: self.features.shape(stem)[0] for stem in self.features.names}
            report_contradictions(self.known, lengths, self.job.source)
        beside.write(key, (json.dumps(description.to_dict(), indent=1) + "\n").encode())
        logger.info("%s written to %s", counted(len(self.written), "video"), self.dest)
        total = sum(video.features for video in self.written.values())
        facts = {"dest": self.dest, "format": self.job.dest_format, "videos": len(self.written), "features": total}
        return Answer(facts=facts)

    def _write_h5(self, videos: dict[str, str]) -> tuple[Store, str]:
        """Returns: where its description belongs, and under which key."""
        with writing(self.dest, self.job.store) as path, PlainH5(path) as h5:

            def reserved() -> Iterator[tuple[str, int]]:
                for video, stem in videos.items():
                    shape = self._shape(stem)
                    self._note(video, shape)
                    yield stem, h5.reserve(file_stem(video, self.job.prefix), shape)

            def convert(item: tuple[str, int]) -> None:
                self._write_values(item[0], h5.descriptor, item[1])

            for _ in map_ahead(convert, reserved(), threads=self._num_threads):
                pass
        folder, name = folder_and_name(self.dest)
        return open_folder(folder, self.job.store), f"{name}.json"

    def _write_files(self, videos: dict[str, str]) -> tuple[Store, str]:
        """Returns: where its description belongs, and under which key."""
        folder = open_folder(self.dest, self.job.store)
        own = {file_stem(video, self.job.prefix) + NPY for video in videos}
        for entry in folder.list():
            # Readers of the folder would mistake it for a file of this set.
            if entry.key.endswith(NPY) and entry.key not in own:
                raise ConfigError(
                    f"{folder.address(entry.key)} does not come from {self.job.source}: choose another DEST"
                )

        # All of them first, so that a failing conversion does not leave a partial set.
        shapes = list(map_ahead(self._shape, videos.values(), threads=self._num_threads))
        for video, shape in zip(videos, shapes, strict=True):
            self._note(video, shape)

        def convert(item: tuple[str, tuple[int, int]]) -> None:
            video, shape = item
            key = file_stem(video, self.job.prefix) + NPY
            path = folder.local_path(key)
            if path is None:
                blocks = (block.tobytes() for block in self._blocks(videos[video]))
                folder.write(key, b"".join((_npy_header(shape), *blocks)))
                return
            # Not forced to the disk: that takes longer than converting many small files, they can be made again from
            # the source, and one that a power cut has shortened is refused by name.
            with new_file(path, sync=False) as temp, temp.open("wb", buffering=0) as file:
                file.write(header := _npy_header(shape))
                self._write_values(videos[video], file.fileno(), len(header))

        for _ in map_ahead(convert, zip(videos, shapes, strict=True), threads=self._num_threads):
            pass
        folder.write(MISSING_FILES, missing_files(self.known.missing, self.job.prefix))
        return folder, DESCRIPTION

    @property
    def _num_threads(self) -> int:
        return num_threads(self.job.source, self.dest)

    def _shape(self, stem: str) -> tuple[int, int]:
        """The shape of the output. Raises: DataError if it is not [T, dimension]."""
        shape = self.features.shape(stem)
        if len(shape) != 2 or not all(shape):
            hint = ": a GVF file contains one vector per video, not features of clips" if len(shape) == 1 else ""
            raise DataError(f"{self.job.source}: {stem!r} has shape {list(shape)}, not [T, dimension]{hint}")
        return self.job.resize or shape[0], shape[1]

    def _write_values(self, stem: str, file: int, offset_bytes: int) -> None:
        """Write a video's features at an offset of a file; called by several threads."""
        begin_bytes = offset_bytes
        raw = self.features.raw(stem) if self.job.resize is None else None
        if raw is not None:
            if not copy_floats(raw, file, offset_bytes=offset_bytes):
                raise self._not_finite(stem)
            offset_bytes += raw.num_bytes
        else:
            for block in self._blocks(stem):
                write_at(file, block, offset_bytes)
                offset_bytes += block.nbytes
        begin_writeback(file, begin_bytes, offset_bytes - begin_bytes)

    def _blocks(self, stem: str) -> Iterator[np.ndarray]:
        """Features of a video in the output's form, float32 [rows, dimension], rows first."""
        num_steps = self.job.resize
        for block in self.features.blocks(stem) if num_steps is None else [self.features.read(stem)]:
            if not is_finite(block):
                raise self._not_finite(stem)
            yield np.ascontiguousarray(block if num_steps is None else resized(block, num_steps), "<f4")

    def _not_finite(self, stem: str) -> DataError:
        return DataError(f"{self.job.source}: the features of {stem!r} hold NaN or infinite values: extract them again")

    def _note(self, video: str, shape: tuple[int, ...]) -> None:
        """Raises: DataError if its features are of another size than those before."""
        length, dimension = shape
        self.written[video] = replace(self.known.videos.get(video, VideoFeatures(features=0)), features=length)
        self.dimensions.setdefault(dimension, video)
        if len(self.dimensions) > 1:
            (size, first), (other, _) = self.dimensions.items()
            lengths = {facts.features for facts in self.written.values()}
            hint = ": are they stored as [dimension, T]? Transpose them" if len(lengths) == 1 else ""
            raise DataError(
                f"{self.job.source}: features of {first!r} have {size} numbers, those of {video!r} have {other}{hint}"
            )


def _npy_header(shape: tuple[int, int]) -> bytes:
    """The head of a .npy file of float32, rows first."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()


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
