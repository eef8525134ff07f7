"""Checkpoints and results of a run's epochs: publishing, reading, pruning."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tsp.errors import DataError, MissingKeyError, StoreError, StoreUnreachableError
from tsp.run import results
from tsp.run.folder import RunFolder
from tsp.run.records import EpochRecord, dump_record
from tsp.run.results import EpochResult
from tsp.store.base import Entry, ProgressCallback

logger = logging.getLogger(__name__)

_EPOCH_FILE = re.compile(r"epoch_(\d+)\.(pth|json)")
PARALLEL_READS = 8
CHECKPOINT_ENDINGS = (".pth", ".pt", ".tar")


def is_checkpoint(address: str) -> bool:
    """Whether an address means a checkpoint rather than a run, whose best epoch would be taken."""
    return address.endswith(CHECKPOINT_ENDINGS) or address.startswith(("http://", "https://"))


class EpochFiles(RunFolder):
    """``epoch_N.pth``, ``epoch_N.json`` (the truth) and ``results.txt`` (rebuilt from those)."""

    def publish_epoch(self, path: Path, record: EpochRecord) -> None:
        """Publish the checkpoint, verified, then its record, then results.txt. An existing epoch is replaced.

        Args: path, the checkpoint on this machine, which must have the record's SHA-256.
        Raises: StoreError.
        """
        self.publish_checkpoint(record.epoch, path, sha256=record.sha256)
        self.publish_record(record)

    def publish_checkpoint(self, epoch: int, path: Path, *, sha256: str) -> None:
        """Upload and verify ``epoch_N.pth``; it counts as an epoch only when its record follows."""
        name = f"epoch_{epoch}.json"
        try:
            old = self.load(EpochRecord, name)
            is_anothers = old is not None and old.sha256 != sha256
        except StoreUnreachableError:
            raise
        except StoreError:
            is_anothers = True
        # A record must never exist beside a checkpoint other than its own. One that is not there is not deleted: an
        # attempt that was given up for lost may publish the same epoch at this moment.
        if is_anothers:
            self.store.delete(self.key(name))
        self.store.upload(self.key(f"epoch_{epoch}.pth"), path, sha256=sha256)

    def publish_record(self, record: EpochRecord) -> None:
        """Write ``epoch_N.json`` and rebuild results.txt; the checkpoint must be there."""
        self.store.write(self.key(f"epoch_{record.epoch}.json"), dump_record(record))
        self.rebuild_results()

    def rebuild_results(self) -> None:
        """Rewrite results.txt from all ``epoch_N.json``."""
        lines = [f"{record.results_line}\n" for record in self.certain_epochs().values()]
        self.store.write(self.key("results.txt"), "".join(lines).encode())

    def epochs(self) -> dict[int, EpochRecord]:
        """Epoch -> record, of completely published epochs; empty for an original run.

        Raises: StoreError if a record is damaged.
        """
        return self._read_records(self.load)

    def _read_records(self, load: Callable[[type[EpochRecord], str], EpochRecord | None]) -> dict[int, EpochRecord]:
        epochs = sorted(epoch for epoch, kind, _ in self._files() if kind == "json")
        names = [f"epoch_{epoch}.json" for epoch in epochs]
        if self.store.is_local:
            # Starting threads would take longer than reading.
            found = [load(EpochRecord, name) for name in names]
        else:
            with ThreadPoolExecutor(PARALLEL_READS) as pool:
                found = list(pool.map(lambda name: load(EpochRecord, name), names))
        # None: replaced or deleted since the listing
        return {epoch: record for epoch, record in zip(epochs, found, strict=True) if record is not None}

    def certain_epochs(self) -> dict[int, EpochRecord]:
        """As ``epochs``, but correct even if the store's listings lag behind: what a listing may miss is requested by
        key. For callers whose decisions or writes depend on the answer. Costs a request for each gap, and one for the
        epoch after the last."""
        found = self._read_records(self.load_whole)
        epoch = 0
        while epoch <= max(found, default=-1) + 1:
            if epoch not in found:
                record = self.load_whole(EpochRecord, f"epoch_{epoch}.json")
                if record is not None:
                    found[epoch] = record
            epoch += 1
        return dict(sorted(found.items()))

    def checkpoints(self) -> dict[int, Entry]:
        """Epoch -> its ``epoch_N.pth``, with or without a record. One without was not validated to the end."""
        return {epoch: entry for epoch, kind, entry in self._files() if kind == "pth"}

    def results(self) -> dict[int, EpochResult]:
        """Epoch -> results, from the records, or from results.txt if there are none, as in a run of the original
        scripts."""
        epochs = self.epochs()
        if epochs:
            return {epoch: record.result for epoch, record in epochs.items()}
        try:
            text = self.store.read(self.key("results.txt")).decode(errors="replace")
        except MissingKeyError:
            return {}
        return results.parse_results(text, where=self.address("results.txt"))

    def readable_results(self) -> tuple[dict[int, EpochResult], list[StoreError]]:
        """As ``results``, of those epochs whose records can be read; and what the others failed with.

        Raises: StoreError if none can be read.
        """
        failures: list[StoreError] = []

        def load(cls: type[EpochRecord], name: str) -> EpochRecord | None:
            try:
                return self.load(cls, name)
            except StoreUnreachableError:
                raise
            except StoreError as error:
                failures.append(error)
                return None

        found = {epoch: record.result for epoch, record in self._read_records(load).items()}
        if failures and not found:
            raise failures[0]
        return (found, failures) if found else (self.results(), [])

    def best(self, epochs: Mapping[int, EpochResult] | None = None) -> EpochResult:
        """The epoch of the highest Avg Accuracy.

        Args: epochs, its results, if they were read already.
        Raises: DataError if there is none yet.
        """
        try:
            return results.best((self.results() if epochs is None else epochs).values())
        except DataError as error:
            raise DataError(f"{self.address()}: {error}") from error

    def checkpoint_address(self, epoch: int | None = None) -> str:
        """Path or URI of an epoch's checkpoint; of the best one by default.

        Raises: DataError if there is no best one yet.
        """
        key = self.key(f"epoch_{self.best().epoch if epoch is None else epoch}.pth")
        local = self.store.local_path(key)
        return self.store.address(key) if local is None else str(local)

    def download_epoch(
        self, epoch: int, path: Path, progress: ProgressCallback | None = None, *, sync: bool = True
    ) -> EpochRecord | None:
        """Download ``epoch_N.pth``: resumable, verified if its digest is known, atomic.

        Args: sync, as ``Store.download``.
        Returns: its record, None in an original run.
        Raises: MissingKeyError saying whether it never existed or was pruned; StoreError.
        """
        record = self.load(EpochRecord, f"epoch_{epoch}.json")
        key = self.key(f"epoch_{epoch}.pth")
        try:
            self.store.download(key, path, sha256=record.sha256 if record else None, progress=progress, sync=sync)
        except MissingKeyError as error:
            there = ", ".join(map(str, sorted(self.checkpoints()))) or "none"
            why = "was deleted to save space (keep_epochs)" if record else "does not exist"
            raise MissingKeyError(
                f"the checkpoint of epoch {epoch} of {self.address()} {why}; there are: {there}"
            ) from error
        return record

    def prune_epochs(self, keep_epochs: int) -> list[int]:
        """Delete checkpoints of all but the best and the newest epochs; their records and results stay.

        Args: keep_epochs, how many to keep besides the best one, 0 for all.
        Returns: the epochs whose checkpoint was deleted. Those without a record never are.
        """
        if keep_epochs == 0:
            return []
        figures = {epoch: record.result for epoch, record in self._read_records(self.load_whole).items()}
        best = results.best_or_none(figures.values())
        if best is None:
            return []
        others = sorted(set(figures) - {best.epoch}, reverse=True)
        kept = {best.epoch, max(figures), *others[:keep_epochs]}
        pruned = sorted((set(self.checkpoints()) & set(figures)) - kept)
        for epoch in pruned:
            self.store.delete(self.key(f"epoch_{epoch}.pth"))
        return pruned

    def _files(self) -> list[tuple[int, str, Entry]]:
        """Epoch, "pth" or "json", and entry of every file of an epoch."""
        start = self.key("epoch_")
        names = ((entry, entry.key.removeprefix(start.removesuffix("epoch_"))) for entry in self.store.list(start))
        return [(int(match[1]), match[2], entry) for entry, name in names if (match := _EPOCH_FILE.fullmatch(name))]
