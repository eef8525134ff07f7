"""An extraction from table to merged output: shards, parts, merge. ``features`` and ``gvf`` define what is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tsp.config.cpus import usable_cpus
from tsp.config.job import Answer
from tsp.config.jobs import EncodingJob, FeatureFormat
from tsp.data.dataset_files import Videos
from tsp.data.features import GVF_DIMS, write_arrays
from tsp.data.file_version import FileVersion
from tsp.data.tables import VideoFacts, read_metadata, refuse_shared_names
from tsp.errors import ConfigError, DataError, MissingKeyError
from tsp.extract.encoder import Encoder, load_backbone
from tsp.extract.finished import described, other_files, refuse_other_files, refuse_other_work
from tsp.extract.inputs import cache_of, fetch_checkpoint, open_videos
from tsp.extract.numbers import describe_numbers, odd_numbers, other_clips
from tsp.extract.pool import decode_videos
from tsp.extract.progress import Progress
from tsp.extract.shards import deal
from tsp.extract.slide_plan import SlidePlan
from tsp.extract.stream import Collector, FeatureStream
from tsp.extract.video_parts import Part, VideoParts
from tsp.model.device import device_of_shard
from tsp.model.gpu_errors import gpu_errors
from tsp.model.trained_clips import trained_clips
from tsp.model.weights import read_file, recognise
from tsp.run.feature_set import FeatureSet, VideoFeatures, file_stem, missing_files, refuse_shared_stems
from tsp.store.base import sha256_of
from tsp.store.fetch import fetch_object
from tsp.store.scratch import scratch
from tsp.wording import counted, first_few

logger = logging.getLogger(__name__)

BATCH_ON_GPU = 64
BATCH_ON_CPU = 8
FILES = "files"
"""Key of a finished output's report: the version of each video's file when its features were extracted."""
HELD = ("videos", "clips", "broken", "padded", "skipped", "missing")
"""Facts of an answer that a finished output's report keeps beside its rows."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of a video's clip features, and in which format."""

    name: str
    """Part of the work's identity."""
    collect: Callable[[], Collector]
    shape: Callable[[int], tuple[int, ...]]
    """Shape of what is kept, from the number of clips."""
    form: FeatureFormat = "h5"
    prefix: str = ""


class Extraction:
    """One job's share of the work."""

    def __init__(self, job: EncodingJob, keep: Keep) -> None:
        """Read the table.

        Raises: ConfigError, DataError (table), StoreError.
        """
        self._job = job
        self._keep = keep
        self._plan = SlidePlan.of(job)
        self._cache = cache_of(job)
        self._shard = job.shard
        self._videos = read_metadata(fetch_object(job.metadata, self._cache, settings=job.store))
        refuse_shared_names(job.metadata, (video.filename for video in self._videos))
        clips = {video.name: len(self._plan.starts_sec(video)) for video in self._videos}
        self._num_clips = {name: number for name, number in clips.items() if number}
        self._skipped = [name for name, number in clips.items() if not number]
        self._shapes = {name: keep.shape(number) for name, number in self._num_clips.items()}
        refuse_shared_stems(self._shapes, keep.prefix)
        self._parts = VideoParts.beside(job.out, job.store, keep.form)
        self._facts: dict[str, Any] = {}

    def run(self) -> Answer:
        """Do the remaining work of this shard (or of the whole job), and merge if the other shards are done.

        Returns: the answer; its exit code is 3 if videos could not be decoded and the job does not leave them out.
        """
        if not self._job.merge_only:
            logger.info("%s", describe_numbers(self._plan))
            for sentence in odd_numbers(self._plan, self._videos):
                logger.warning("%s", sentence)
        report = self._merged_already() if self._job.merge_only else self._extract_rest()
        if report is not None:
            return self._finished(report)
        try:
            return self._settle()
        except MissingKeyError:
            # Another shard has merged and deleted the parts while this one was checking them.
            report = self._merged_already()
            if report is None:
                raise
            return self._finished(report)

    def _settle(self) -> Answer:
        """Finish once this shard is done."""
        parts = self._parts.all(self._shapes)
        answer = self._answer(parts)
        if answer.facts["missing"]:
            report = self._merged_already()
            return self._unfinished(parts, answer) if report is None else self._finished(report)
        if answer.facts["broken"] and self._job.broken_videos == "fail":
            logger.error(
                "%s could not be decoded, so nothing was merged: replace them and run the command again "
                "(finished videos are kept), or leave them out with --broken-videos skip",
                counted(answer.facts["broken"], "video"),
            )
            return replace(answer, exit_code=DataError.exit_code)
        if self._shard is not None and not self._parts.claim_merge(self._shard):
            logger.info("all videos are done; another shard merges them")
            return answer
        return self._merge(parts, answer)

    def _finished(self, report: dict[str, Any]) -> Answer:
        """The answer of an H5 that is complete.

        Raises: ConfigError if it is not what the job asks for.
        """
        refuse_other_work(
            report,
            self._num_clips,
            table=self._job.metadata,
            encoder=self._job.backbone,
            where=self._parts.address,
        )
        if not self._job.merge_only and report.get(FILES):
            made_from = {name: version for name, text in report[FILES].items() if (version := FileVersion.parse(text))}
            there = self._files_now(open_videos(self._job, self._cache), made_from)
            refuse_other_files(made_from, there, folder=self._job.videos, where=self._parts.address)
        logger.info("%s is already finished", self._parts.address)
        held = dict(report["holds"])
        return Answer(rows=held.pop("rows"), facts={**held, "out": self._parts.address})

    # Extracting

    def _extract_rest(self) -> dict[str, Any] | None:
        """Extract the remaining videos of this shard; returns the report of an H5 that is already finished."""
        checkpoint = fetch_checkpoint(self._job, self._cache)
        identity = self._identity(sha256_of(checkpoint))
        if report := self._parts.finished(identity):
            return report
        self._parts.begin(identity)
        dealt = deal(self._videos, self._job.shards if self._shard is not None else 1)
        mine = [video for video in dealt[self._shard or 0] if video.name in self._num_clips]
        source = open_videos(self._job, self._cache)
        parts = self._parts.all(self._shapes)
        self._refuse_other_files(mine, parts, source)
        # A broken file may have been repaired in the meantime, too.
        rest = [video for video in mine if video.name not in parts or parts[video.name].state == "broken"]
        self._parts.discard(parts[video.name] for video in rest if video.name in parts)
        logger.info("%s, %d of them already done", counted(len(mine), "video"), len(mine) - len(rest))
        if rest:
            # Errors of a card may surface at any later call, not only where the encoder runs.
            with gpu_errors("give a smaller --batch, or free the GPU's memory"):
                self._extract(checkpoint, rest, source)
        return None

    def _files_now(self, source: Videos, made_from: Mapping[str, FileVersion]) -> dict[str, FileVersion | None]:
        """By the video's name, the file that features were made from as it is now; None if there is none."""
        names = {video.name: video.filename for video in self._videos if video.name in made_from}
        now = source.versions_now({filename: made_from[name] for name, filename in names.items()})
        return {name: now.get(filename) for name, filename in names.items()}

    def _refuse_other_files(self, videos: Sequence[VideoFacts], parts: Mapping[str, Part], source: Videos) -> None:
        """Refuse to go on if features so far are of other files than those that are there.

        Raises: ConfigError; what was computed is not discarded because of a mistyped --data.
        """
        mine = {video.name: parts[video.name] for video in videos if video.name in parts}
        made_from = {
            name: part.made_from for name, part in mine.items() if part.state != "broken" and part.made_from is not None
        }
        there = self._files_now(source, made_from)
        if other := other_files(made_from, there):
            example = self._parts.store.address(parts[next(iter(other))].key)
            raise ConfigError(
                f"{self._parts.address} was started with other files than those in {self._job.videos} "
                f"({'; '.join(described(other, made_from))}): check --data, choose another --out, or delete what was "
                f"made of them, such as {example}, to extract them again"
            )

    def _extract(self, checkpoint: Path, videos: list[VideoFacts], source: Videos) -> None:
        versions = source.versions(video.filename for video in videos)
        content = read_file(checkpoint)
        trained = trained_clips(content)
        if sentence := other_clips(self._plan, trained, where=self._job.checkpoint):
            logger.warning("%s", sentence)
        plan = self._plan if trained is None else replace(self._plan, picture=trained)
        backbone, network = load_backbone(content, self._job.backbone, where=str(checkpoint))
        del content  # hundreds of megabytes
        device = device_of_shard(self._shard)
        encoder = Encoder(network, device, self._job.precision)
        stream = FeatureStream(
            encoder, self._job.batch or (BATCH_ON_GPU if device.type == "cuda" else BATCH_ON_CPU), self._keep.collect
        )
        workers = default_workers(device) if self._job.workers is None else self._job.workers
        progress = Progress(stream, len(videos), sum(self._num_clips[video.name] for video in videos))
        events = progress.watched(decode_videos(source, videos, plan, workers=workers))
        for result in stream.results(events):
            if result.array is None:
                logger.warning("%s: %s", result.video.name, result.message)
            filename = result.video.filename
            made_from = versions.get(filename)
            self._parts.write(result, None if made_from is None else source.with_tag(filename, made_from))
            progress.videos_done += 1
        self._facts = {
            "backbone": backbone,
            "device": str(device),
            "precision": encoder.precision,
            "cosine_with_fp32": encoder.cosine,
            **progress.facts(),
        }

    def _identity(self, checkpoint_sha256: str) -> dict[str, Any]:
        """What two jobs must share for their parts to belong together."""
        plan = self._plan
        return {
            "keeps": self._keep.name,
            "checkpoint_sha256": checkpoint_sha256,
            "stride_frames": plan.stride_frames,
            "length_frames": plan.length_frames,
            "rate_fps": plan.rate_fps,
            **({"prefix": self._keep.prefix} if self._keep.prefix else {}),
        }

    # Merging

    def _merged_already(self) -> dict[str, Any] | None:
        """The report of a finished output; None while there are parts to merge, which the last shard does."""
        return None if self._parts.are_there() else self._parts.report()

    def _answer(self, parts: Mapping[str, Part]) -> Answer:
        broken = {name: part for name, part in parts.items() if part.state == "broken"}
        padded = [name for name, part in parts.items() if part.state == "padded"]
        rows = [
            *({"video": name, "state": "broken", "message": self._parts.why_broken(broken[name])} for name in broken),
            *({"video": name, "state": "padded", "message": "last frame repeated"} for name in padded),
            *({"video": name, "state": "skipped", "message": "shorter than one clip"} for name in self._skipped),
        ]
        good = [name for name in parts if name not in broken]
        facts = {
            "videos": len(good),
            "clips": sum(self._num_clips[name] for name in good),
            "broken": len(broken),
            "padded": len(padded),
            "skipped": len(self._skipped),
            "missing": len(self._shapes.keys() - parts.keys()),
            **self._facts,
        }
        return Answer(rows=rows, facts=facts)

    def _unfinished(self, parts: Mapping[str, Part], answer: Answer) -> Answer:
        missing = [name for name in self._shapes if name not in parts]
        if self._shard is not None:
            logger.info(
                "this shard is done; other shards still have %s to do (%s)",
                counted(len(missing), "video"), first_few(missing),
            )  # fmt: skip
            return answer
        raise DataError(
            f"{self._parts.address} cannot be merged: {len(missing)} of {len(self._shapes)} videos have no "
            f"features yet ({first_few(missing)}): run the unfinished shards again"
        )

    def _merge(self, parts: Mapping[str, Part], answer: Answer) -> Answer:
        names = [name for name in self._shapes if parts[name].state != "broken"]
        if not names:
            raise DataError(f"there is nothing to merge: none of the {len(self._videos)} videos has features")
        holds = {"rows": answer.rows, **{key: answer.facts[key] for key in HELD}}
        description = self._description(names)
        files = {name: str(made_from) for name in self._shapes if (made_from := parts[name].made_from) is not None}
        report = {**description.to_dict(), "holds": holds, FILES: files}
        if self._keep.form == "npy":
            stems = {name: file_stem(name, self._keep.prefix) for name in names}
            self._parts.finish_files(stems, parts, missing_files(description.missing, self._keep.prefix), report)
        else:
            self._merge_h5({name: parts[name] for name in names}, report)
        logger.info("%s merged into %s", counted(len(names), "video"), self._parts.address)
        return replace(answer, facts={**answer.facts, "out": self._parts.address})

    def _merge_h5(self, parts: Mapping[str, Part], report: dict[str, Any]) -> None:
        with scratch(self._cache) as folder:
            h5 = folder / "merged.h5"
            arrays = self._parts.arrays(parts)
            write_arrays(h5, ((file_stem(name, self._keep.prefix), array) for name, array in arrays))
            self._parts.finish(h5, sha256_of(h5), report)

    def _description(self, names: list[str]) -> FeatureSet:
        """The description of the features of these videos for readers."""
        encoder = self._facts.get("backbone") or self._job.backbone
        if encoder is None:  # a shard that merges without having extracted has not read the checkpoint yet
            path = fetch_checkpoint(self._job, self._cache)
            encoder = recognise(read_file(path), where=str(path))
        kept = set(names)
        return FeatureSet(
            rate_fps=self._plan.rate_fps,
            stride_frames=self._plan.stride_frames,
            clip_frames=self._plan.length_frames,
            dimension=GVF_DIMS,
            encoder=encoder,
            checkpoint_sha256=self._parts.about()["checkpoint_sha256"],
            prefix=self._keep.prefix,
            missing=tuple(video.name for video in self._videos if video.name not in kept),
            videos={
                video.name: VideoFeatures(
                    features=self._num_clips[video.name],
                    frames=video.num_frames,
                    fps=video.fps,
                    duration_sec=video.duration_sec,
                )
                for video in self._videos
                if video.name in kept
            },
        )


def default_workers(device: torch.device) -> int:
    """Number of decoding processes: one per CPU with a GPU, a single one if the encoder needs the CPUs."""
    return usable_cpus() if device.type == "cuda" else 1
