"""``tspctl evaluate``: only the validation pass, in one process or in shards that each take every n-th batch."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from tsp.config.job import Answer
from tsp.config.jobs import EvaluateJob
from tsp.config.run import RunConfig
from tsp.data.dataset_files import DatasetFiles
from tsp.data.loader import load_subset
from tsp.errors import DataError
from tsp.model.device import device_of_shard
from tsp.model.gpu_errors import gpu_errors
from tsp.model.weights import load_model_state, read_file
from tsp.run.evaluation import Evaluation, EvaluationFile, EvaluationPart, answer_of, digest_of
from tsp.run.results import format_line
from tsp.store.base import sha256_of
from tsp.store.fetch import fetch_object
from tsp.store.files import open_folder, output_folder_and_name
from tsp.store.scratch import cache_folder
from tsp.train.evaluation_share import evaluate_share, joined, num_batches, num_clips, tally_of
from tsp.train.fit import model_state, refuse_misfit, warn_of_other_clips
from tsp.train.training_state import build_model
from tsp.wording import counted_is, first_few

logger = logging.getLogger(__name__)


def run(job: EvaluateJob) -> Answer:
    """Do an evaluation.

    Returns: results, and a row for every class of every head; only counts from a shard that is not the last.
    Raises: ConfigError, DataError, StoreError, GpuMemoryError, GpuLostError.
    """
    return _Evaluation(job).run()


class _Evaluation:
    """One process's share of an evaluation."""

    def __init__(self, job: EvaluateJob) -> None:
        self._job = job
        self._config = job.config if job.workers is None else _with_workers(job.config, job.workers)
        folder, name = output_folder_and_name(job.out, like="evaluation.json")
        self._file = EvaluationFile(open_folder(folder, job.config.store), name)
        self._checkpoint = fetch_object(job.checkpoint, cache_folder("weights"), settings=job.config.store)
        self._data = load_subset(self._config, "valid")
        self._num_batches = num_batches(self._config, self._data)
        self._checkpoint_sha256 = sha256_of(self._checkpoint)
        self._work = digest_of(self._identity())

    def run(self) -> Answer:
        """Evaluate this process's shard, unless it is already done; merge if no other shard is missing."""
        found = self._file.read()
        if found is not None and found.work == self._work:
            logger.info("%s already contains this evaluation", self._file.address)
            return answer_of(found, self._file.address)
        self._file.check_writable()
        content = read_file(self._checkpoint)
        refuse_misfit(self._config, content, self._data.labels, where=self._job.checkpoint)
        warn_of_other_clips(self._config, content, where=self._job.checkpoint)
        self._refuse_missing_videos()
        if self._job.shard is None and not self._job.merge_only:
            return self._finish(self._evaluate(content, 0, 1), content)
        shards, shard = self._job.shards, self._job.shard
        if shard is not None and self._file.part(self._work, shard, shards) is None:
            self._file.write_part(self._work, shard, shards, self._evaluate(content, shard, shards))
        return self._merge(content)

    def _merge(self, content: Mapping[str, Any]) -> Answer:
        shards = self._job.shards
        parts = [self._file.part(self._work, shard, shards) for shard in range(shards)]
        there = [part for part in parts if part is not None]
        if len(there) == shards:
            return self._finish(joined(there), content)
        found = self._file.read()
        if found is not None and found.work == self._work:
            # Another shard has merged and deleted the parts while this one was checking them.
            return answer_of(found, self._file.address)
        missing = [shard for shard, part in enumerate(parts) if part is None]
        if self._job.shard is None:
            raise DataError(f"{self._file.address} cannot be merged: the shards {missing} are not done; run them again")
        logger.info("this shard is done; %s not yet done", counted_is(len(missing), "other"))
        return Answer(facts={"shard": self._job.shard, "missing": len(missing)})

    def _finish(self, part: EvaluationPart, content: Mapping[str, Any]) -> Answer:
        heads = self._config.model.heads
        columns = [head.label_column for head in heads]
        tally = tally_of(part, self._num_batches, self._data.num_classes)
        result = tally.result(int(content.get("epoch", 0)), columns)
        evaluation = Evaluation(
            work=self._work,
            checkpoint=self._job.checkpoint,
            checkpoint_sha256=self._checkpoint_sha256,
            dataset=self._config.data.name,
            results_line=format_line(result),
            result=result,
            classes=tally.classes(columns, self._data.labels),
            clips=num_clips(self._config, self._data),
            bad_clips=part.bad_clips,
            batch=self._config.batch_per_gpu,
            precision=self._config.model.precision,
            clips_per_sec=round(part.clips_per_sec, 2),
        )
        self._file.write(evaluation)
        logger.info("%s", evaluation.results_line)
        if not math.isfinite(result.total_loss):
            logger.warning("the loss is %s: %s does not give finite scores, so its accuracies are meaningless",
                           result.total_loss, self._job.checkpoint)  # fmt: skip
        return answer_of(evaluation, self._file.address)

    def _evaluate(self, content: Mapping[str, Any], shard: int, shards: int) -> EvaluationPart:
        model = build_model(self._config.model, self._data.num_classes, seed=self._config.seed)
        where = self._job.checkpoint
        load_model_state(model, model_state(content, where=where), where=where)
        with gpu_errors(
            f"give a --batch-per-gpu smaller than {self._config.batch_per_gpu} (accuracies do not change, losses "
            "become means over other batches)"
        ):
            return evaluate_share(self._config, self._data, model, device_of_shard(self._job.shard), shard, shards)

    def _identity(self) -> dict[str, Any]:
        """The inputs that determine the results of an evaluation."""
        config, files = self._config, DatasetFiles(self._config.data, self._config.store)
        part = config.data.valid
        tables = [part.csv, *(head.labels for head in config.model.heads)]
        tables += [part.gvf] if part.gvf is not None and config.model.gvf != "none" else []
        return {
            "checkpoint": self._checkpoint_sha256,
            "tables": {name: sha256_of(files.table(name)) for name in tables},
            "videos": [config.data.root, part.videos, config.data.training_copy, config.data.bad_clips],
            "heads": [asdict(head) for head in config.model.heads],
            "model": [config.model.backbone, config.model.gvf, config.model.precision, config.model.conv2d],
            "clips": asdict(config.clips),
            "batch": config.batch_per_gpu,
            "seed": config.seed,
        }

    def _refuse_missing_videos(self) -> None:
        """Training may draw another clip for a missing one, but an evaluation must use the given clips."""
        segments = self._data.segments
        filenames = [segments.filename(file) for file in range(len(segments.name_ends))]
        missing = self._data.videos.missing(filenames)
        if missing:
            where = f"{self._config.data.root.rstrip('/')}/{self._config.data.valid.videos}"
            raise DataError(
                f"{len(missing)} of the {len(filenames)} videos of {self._config.data.valid.csv} are not in "
                f"{where} ({first_few(missing)}): add them, or remove their rows from the table"
            )


def _with_workers(config: RunConfig, workers: int) -> RunConfig:
    return replace(config, data=replace(config.data, workers=workers))
