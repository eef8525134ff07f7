"""The stored result of ``tspctl evaluate``, and the partial results that shards keep until all have finished.

    <out>.parts/<work>/<shard>-of-<shards>.json     the result of one shard
    <out>                                           the evaluation; complete or absent

``work`` is a digest of checkpoint and data, so that parts of different evaluations never mix. Merging adds counts, so
it gives the same bytes in every process: two shards that see all parts at the same time do no harm.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tsp.config.job import Answer
from tsp.errors import ConfigError, MissingKeyError, StoreError
from tsp.run.class_counts import ClassCounts
from tsp.run.records import dump_record, load_record, utc_now
from tsp.run.results import EpochResult
from tsp.store.base import Store

WORK_CHARS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The results of a checkpoint on the validation subset of a data set."""

    work: str
    """Digest of checkpoint and data."""
    checkpoint: str
    checkpoint_sha256: str
    dataset: str
    results_line: str
    result: EpochResult
    classes: tuple[ClassCounts, ...]
    clips: int
    bad_clips: int = 0
    """Clips that could not be decoded."""
    batch: int
    """Clips per batch, of which losses are means."""
    precision: str
    clips_per_sec: float
    """All shards together."""
    created: str = field(default_factory=utc_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationPart:
    """The result of one shard."""

    losses: dict[str, tuple[float, ...]]
    """Batch number -> its row of the validation's table."""
    counts: tuple[tuple[int, ...], ...]
    """Per head, clips by true class and predicted class."""
    bad_clips: int
    clips_per_sec: float


def digest_of(work: Mapping[str, Any]) -> str:
    """A short name for plain values."""
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:WORK_CHARS]


def answer_of(evaluation: Evaluation, address: str) -> Answer:
    """Results, and a row for every class of every head.

    Args: address, where the evaluation is stored.
    Raises: DataError if its counts are damaged.
    """
    rows = [
        {"head": head.label_column, "class": row.label, "clips": row.clips, "correct": row.correct,
         "accuracy_percent": row.accuracy_percent, "predicted": row.predicted}
        for head in evaluation.classes
        for row in head.rows()
    ]  # fmt: skip
    plain = dataclasses.asdict(evaluation)
    del plain["classes"], plain["work"]
    return Answer(rows=rows, facts={**plain, "out": address})


class EvaluationFile:
    """An evaluation in its store."""

    def __init__(self, folder: Store, name: str) -> None:
        self.folder, self.name = folder, name

    @property
    def address(self) -> str:
        """Path or URI."""
        return self.folder.address(self.name)

    def read(self) -> Evaluation | None:
        """The stored evaluation; None if there is none.

        Raises: ConfigError if it is something else.
        """
        try:
            data = self.folder.read(self.name)
        except MissingKeyError:
            return None
        try:
            return load_record(Evaluation, data, where=self.address)
        except StoreError as error:
            raise ConfigError(
                f"{self.address} exists but is not an evaluation: choose another --out, or move it"
            ) from error

    def check_writable(self) -> None:
        """Try to write there before the work, which may take hours.

        Raises: StoreError that says what to do.
        """
        path = self.folder.local_path(self.name)
        if path is not None and path.is_dir():
            raise StoreError(f"{self.address} is a folder: give a file to --out")
        self.folder.check_writable()

    def write(self, evaluation: Evaluation) -> None:
        """Store the complete evaluation and delete the parts."""
        self.folder.write(self.name, dump_record(evaluation))
        self.folder.delete_all(f"{self.name}.parts/")

    def write_part(self, work: str, shard: int, shards: int, part: EvaluationPart) -> None:
        """Store the result of a shard."""
        self.folder.write(self._part_key(work, shard, shards), dump_record(part))

    def part(self, work: str, shard: int, shards: int) -> EvaluationPart | None:
        """The result of a shard; None until it has finished."""
        key = self._part_key(work, shard, shards)
        try:
            data = self.folder.read(key)
        except MissingKeyError:
            return None
        return load_record(EvaluationPart, data, where=self.folder.address(key))

    def _part_key(self, work: str, shard: int, shards: int) -> str:
        return f"{self.name}.parts/{work}/{shard}-of-{shards}.json"
