"""A run in a store: its files, the order in which they are written, and what is read from them.

    <store>/<run>/run.json, progress.json, outcome.json, epoch_N.pth, epoch_N.json, results.txt,
                  state/{latest.json, attempt.json, owner-N.json, <epoch>-<step>-<digest>.pth},
                  logs/attempt-K/rank-R.log
    <store>/.index/<run>,<facts>

Only rank 0 writes. Folders of the original TSP scripts, with only results.txt and epoch_N.pth, can be read.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from tsp.config.codec import flat, from_dict, to_dict
from tsp.config.run import RunConfig
from tsp.config.run_name import check_run_name
from tsp.config.sizing import EffectiveSizes
from tsp.errors import ConfigError, MissingKeyError, NoSuchRunError, StoreError, StoreUnreachableError, TspError
from tsp.run import records
from tsp.run.epochs import PARALLEL_READS, EpochFiles
from tsp.run.folder import dump_plain
from tsp.run.log_files import LogFiles
from tsp.run.origins import data_digest, recorded
from tsp.run.records import Outcome, Progress, dump_record
from tsp.run.run_index import IndexWriter, remove_from_index
from tsp.run.states import StateFiles
from tsp.store.base import KeyExistsError, Store

_OWN_FILE = re.compile(
    r"((run|progress|outcome|images)\.json(\.claim-[0-9a-f]+)?|results\.txt|epoch_\d+\.(pth|json)"
    r"|(state|logs|metrics|features|evaluations)/.*)\Z",
    re.DOTALL,
)
"""What a run's folder may hold before there is a run: what a deletion or a process that died late left there."""
_MAY_DIFFER = (
    "store",
    "gpus",
    "max_attempts",
    "metrics_every",
    "data.root",
    "data.workers",
    "data.height_px",
    "data.cache_dir",
    "data.cache_mib",
)
"""Settings that a restarted attempt of the same run may have otherwise: they change no figure, or are documented to."""


class StoredRun(EpochFiles, StateFiles, LogFiles):
    """One run of a store."""

    # What it is

    def exists(self) -> bool:
        """Whether there is such a run, of tspctl or of the original scripts."""
        return any(self.store.exists(self.key(name)) for name in ("run.json", "results.txt")) or bool(self._files())

    def create(self, config: RunConfig, effective: EffectiveSizes | None, *, owner: str | None = None) -> None:
        """Write run.json, which claims the name; the first attempt adds versions and digests.

        Args: effective, batch and learning rates, None while the GPUs are unknown; owner, who will train it
            (``ownership``), if that is known.
        Raises: ConfigError if the name is taken or invalid.
        """
        check_run_name(self.name)
        if self.exists():
            raise ConfigError(f"there is already a run at {self.address()}: choose another --name, or delete it first")
        self._refuse_foreign()
        about = {
            "config": to_dict(config),
            "effective": None if effective is None else dataclasses.asdict(effective),
            "created": records.utc_now(),
            # Tells two submits of the same configuration in the same second apart: a write whose answer was lost counts
            # as ours if the object holds what we wrote.
            "id": uuid.uuid4().hex,
            **({} if owner is None else {"owner": owner}),
        }
        try:
            self.store.write(self.key("run.json"), dump_plain(about), only_if_absent=True)
        except KeyExistsError as error:
            raise ConfigError(
                f"another run has just been created at {self.address()}: choose another --name"
            ) from error

    def _refuse_foreign(self) -> None:
        """Refuse a folder that contains other files: deleting the run would delete them.

        A store that is itself a run's folder is one: deleting that run would delete this one.

        Raises: ConfigError.
        """
        if self.store.exists("run.json"):
            raise ConfigError(
                f"{self.store.address('run.json')} belongs to another run, and deleting that run would delete this "
                "one: give --store the folder that contains the other run, not the run's own folder"
            )
        start = f"{self.key()}/"
        for entry in self.store.list(start):
            name = entry.key.removeprefix(start)
            if not _OWN_FILE.match(name):
                raise ConfigError(
                    f"{self.address()} contains files that were not written by a run, such as {name}, and deleting "
                    "the run would delete them: choose another --name or --store"
                )

    def record_origins(
        self, *, versions: Mapping[str, str], machine: Mapping[str, str], digests: Mapping[str, str]
    ) -> dict[str, str]:
        """Add the programs, machines, and digests of data and weights of the first attempt to run.json. Later attempts
        do not change them. Returns: the differences of a later attempt, as ``{"torch": "2.15.0, was 2.14.1"}``.
        Raises: NoSuchRunError, StoreError.
        """
        about = self.about()
        found = {"versions": dict(versions), "machine": dict(machine), "digests": dict(digests)}
        if "digests" not in about:
            about |= {**found, "data_digest": data_digest(digests)}
            self.store.write(self.key("run.json"), dump_plain(about))
            return {}
        return {
            name: f"{value}, was {before[name]}"
            for key, now in found.items()
            for name, value in now.items()
            if (before := recorded(about, key)).get(name, value) != value
        }

    def ensure(self, config: RunConfig, effective: EffectiveSizes | None) -> bool:
        """Create the run, or accept one with the same configuration, as a restarted attempt finds it.

        Returns: whether it was created.
        Raises: ConfigError naming the first setting that differs.
        """
        try:
            old = self.config()
        except NoSuchRunError:
            self.create(config, effective)
            return True
        before, now = flat(to_dict(old)), flat(to_dict(config))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and not key.startswith(_MAY_DIFFER):
                raise ConfigError(
                    f"the run at {self.address()} was made with {key} = {before.get(key)!r}, not {now.get(key)!r}: "
                    "choose another --name, or continue with the old value"
                )
        return False

    def about(self) -> dict[str, Any]:
        """All of run.json: config, effective, created, id; and versions, machine, digests, data_digest once it trains.

        Raises: NoSuchRunError.
        """
        try:
            data = self.store.read(self.key("run.json"))
        except MissingKeyError as error:
            made = "one of the original scripts' (it has no run.json)" if self._files() else "not there"
            raise NoSuchRunError(f"the run at {self.address()} is {made}; see 'tspctl list'") from error
        try:
            about = json.loads(data)
            dict(about["config"])
            if about.get("created") is not None:
                records.check_time(about["created"])
            if about.get("effective") is not None:
                EffectiveSizes(**about["effective"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"{self.address('run.json')} is damaged: {error!r:.200}; restore it to continue the run (its "
                "results and checkpoints can be fetched without it)"
            ) from error
        return dict(about)

    def config(self) -> RunConfig:
        """The configuration it was made with.

        Raises: NoSuchRunError; ConfigError if this version of the program does not understand it.
        """
        return from_dict(RunConfig, self.about()["config"], where=self.address("run.json"))

    def effective(self) -> EffectiveSizes | None:
        """Batch and learning rates that were known when it was made."""
        sizes = self.about().get("effective")
        return None if sizes is None else EffectiveSizes(**sizes)

    # How it goes

    def write_progress(self, progress: Progress) -> None:
        """Replace progress.json, and keep the run's entry in the index of a bucket.

        Raises: StoreError.
        """
        self.store.write(self.key("progress.json"), dump_record(progress))
        self._index.publish(progress)

    @cached_property
    def _index(self) -> IndexWriter:
        return IndexWriter(self.store, self.name, self._known_config)

    def _known_config(self) -> Mapping[str, Any]:
        """The configuration as plain values; empty while there is none to be read."""
        try:
            config = self.about()["config"]
        except StoreUnreachableError:
            raise
        except TspError:
            return {}
        return config if isinstance(config, dict) else {}

    def read_progress(self) -> Progress | None:
        """The newest progress, None before there is any."""
        return self.load(Progress, "progress.json")

    def progress_age_sec(self) -> float | None:
        """Seconds since progress was written, by the store's own clock; None if it never was."""
        try:
            written = self.store.stat(self.key("progress.json")).modified
        except MissingKeyError:
            return None
        return max(0.0, (self.store.now() - written).total_seconds())

    def written_ago_sec(self) -> float | None:
        """Seconds since the run wrote anything, by the store's own clock; None if it never did."""
        entries = list(self.store.list(f"{self.key()}/" if self.name else ""))
        if not entries:
            return None
        return max(0.0, (self.store.now() - max(entry.modified for entry in entries)).total_seconds())

    def write_outcome(self, outcome: Outcome) -> None:
        """Replace outcome.json."""
        self.store.write(self.key("outcome.json"), dump_record(outcome))

    def read_outcome(self) -> Outcome | None:
        """How the last attempt ended, None while none has."""
        return self.load(Outcome, "outcome.json")

    def start_attempt(self) -> int:
        """Count one more start of the run; returns its number, from 1. Takes back an outcome that was written."""
        key = self.key("state", "attempt.json")
        attempt = self.last_attempt() + 1
        self.store.write(key, dump_plain({"attempt": attempt, "started": records.utc_now()}))
        self.store.delete(self.key("outcome.json"))
        return attempt

    def last_attempt(self) -> int:
        """The number of the newest start, 0 before the first."""
        key = self.key("state", "attempt.json")
        try:
            return int(json.loads(self.store.read(key))["attempt"])
        except MissingKeyError:
            return 0
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{self.store.address(key)} is damaged: {error!r:.200}; delete it to start counting again"
            ) from error

    def with_more_attempts(self, config: RunConfig) -> RunConfig:
        """The configuration of a resumed run, with its original number of attempts again.

        Attempts are counted over the run's whole life.
        """
        return dataclasses.replace(config, max_attempts=self.last_attempt() + config.max_attempts)

    def delete(self) -> None:
        """Delete all files of the run, including those that an interrupted deletion left.

        Raises: ConfigError if the run is the store itself, or other runs lie in its folder.
        """
        if not self.name:
            raise ConfigError(f"{self.address()} is a store, not a run: name the run to delete")
        folders = list(self.store.list_folders(self.key()))
        for folder in folders:
            if not _OWN_FILE.match(f"{folder}/") and self.store.exists(self.key(folder, "run.json")):
                raise ConfigError(
                    f"{self.store.address(self.key(folder))} is another run, which would be deleted with {self.name}: "
                    f"move it elsewhere first"
                )
        remove_from_index(self.store, self.name)
        # The files that identify a run are deleted last, so that an interrupted deletion can be repeated.
        for folder in folders:
            self.store.delete_all(f"{self.key(folder)}/")
        self.store.delete_all(f"{self.key()}/")


def list_runs(store: Store, *, known: Collection[str] = ()) -> Iterator[str]:
    """Names of the runs in a store, sorted, without other folders. Args: known, names to leave out without checking."""
    folders = [folder for folder in store.list_folders() if not folder.startswith(".") and folder not in known]
    if store.is_local:
        # Starting threads would take longer than checking.
        return (folder for folder in folders if StoredRun(store, folder).exists())
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        found = list(pool.map(lambda folder: StoredRun(store, folder).exists(), folders))
    return itertools.compress(folders, found)
