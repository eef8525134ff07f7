"""The index that runs keep of themselves: what is written when, and what it survives."""

import dataclasses
import logging
from pathlib import Path

import pytest

from tests.run.stored import PROGRESS
from tests.s3_servers import S3Server
from tests.stores import s3_store
from tsp.config.run import RunConfig
from tsp.errors import StoreError, StoreUnreachableError
from tsp.run import run_index
from tsp.run.run_index import IndexWriter, facts_of, key_of, read_index
from tsp.run.stored_run import StoredRun, list_runs
from tsp.store.base import Store


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.list(run_index.PREFIX)]


def test_a_run_keeps_one_entry_that_follows_its_progress_and_goes_with_it(
    s3_server: S3Server, config: RunConfig
) -> None:
    store = s3_store(s3_server)
    run = StoredRun(store, "first-run")
    run.create(config, None)
    for step, epoch in ((1, 0), (2, 0), (0, 1)):
        run.write_progress(dataclasses.replace(PROGRESS, epoch=epoch, step=step))
    (key,) = keys(store)
    again = StoredRun(store, "first-run")
    again.write_progress(dataclasses.replace(PROGRESS, epoch=2, best_epoch=1, best_accuracy_percent=61.25, attempt=2))
    assert keys(store) != [key], "the next attempt replaces what the one before left"
    assert len(keys(store)) == 1
    entry = read_index(store)["first-run"]
    assert (entry.facts.epoch, entry.facts.best_epoch, entry.facts.best_accuracy_percent) == (2, 1, 61.25)
    assert (entry.facts.method, entry.facts.dataset) == (config.method, config.data.name)
    assert list(list_runs(store)) == ["first-run"]
    StoredRun(store, "first-run-2").write_progress(PROGRESS)
    run.delete()
    assert list(read_index(store)) == ["first-run-2"]


class CountedStore:
    """Of a store what the index uses; counts its writes."""

    is_local = False

    def __init__(self, refuse: Exception | None = None) -> None:
        self.refuse, self.writes = refuse, list[str]()

    def list(self, prefix: str) -> list[object]:
        return []

    def write(self, key: str, data: bytes) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.writes.append(key)

    def delete(self, key: str) -> None:
        self.writes.append(f"-{key}")


def test_an_entry_is_written_when_the_run_moves_on_and_otherwise_refreshed_each_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(run_index.time, "monotonic", lambda: now[0])
    store = CountedStore()
    writer = IndexWriter(store, "a", dict)
    for step in range(12):
        now[0] += 10.0
        writer.publish(dataclasses.replace(PROGRESS, step=step, backbone_lr=step / 10))
    assert len(store.writes) == 2
    assert store.writes[0] == store.writes[1]
    writer.publish(dataclasses.replace(PROGRESS, epoch=PROGRESS.epoch + 1))
    assert store.writes[3] == f"-{store.writes[0]}", "first the new key, then the old one goes"
    num_writes = len(store.writes)
    for later_sec, is_written in ((59.9, False), (0.1, True), (59.9, False)):
        now[0] += later_sec
        writer.publish(dataclasses.replace(PROGRESS, epoch=PROGRESS.epoch + 1))
        num_writes += is_written
        assert len(store.writes) == num_writes


def test_a_store_that_refuses_the_index_costs_a_run_nothing(caplog: pytest.LogCaptureFixture) -> None:
    writer = IndexWriter(CountedStore(StoreError("no rights")), "a", dict)
    with caplog.at_level(logging.WARNING):
        for epoch in range(3):
            writer.publish(dataclasses.replace(PROGRESS, epoch=epoch))
    assert caplog.text.count("no rights") == 1


def test_a_store_that_fails_at_the_index_alone_is_left_alone_after_a_few_tries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = CountedStore(StoreUnreachableError("InternalError"))
    writer = IndexWriter(store, "a", dict)
    done = dataclasses.replace(PROGRESS, phase="done")
    for failures in range(1, run_index.MAX_FAILURES + 1):
        with caplog.at_level(logging.WARNING):
            writer.publish(done)
        assert caplog.text.count("InternalError") == (failures == run_index.MAX_FAILURES)
    store.refuse = None
    writer.publish(done)
    assert store.writes == []


def test_an_entry_that_could_not_be_written_is_written_with_the_next_progress() -> None:
    store = CountedStore(StoreUnreachableError("away"))
    writer = IndexWriter(store, "a", dict)
    writer.publish(PROGRESS)
    store.refuse = None
    writer.publish(PROGRESS)
    assert len(store.writes) == 1


@pytest.mark.parametrize("run", ["r", "r" * 53])
def test_no_name_between_slashes_is_longer_than_a_files_may_be(run: str) -> None:
    """Facts with as many digits as they can have."""
    third = 1 / 3
    facts = dataclasses.replace(
        facts_of(PROGRESS, {"method": "tsp", "data": {"name": "thumos14"}, "model": {"backbone": "r2plus1d_34"}}),
        best_accuracy_percent=100 * third, backbone_lr=third / 1e9, head_lr=third / 1e9, device="NVIDIA H100 80GB HBM3",
    )  # fmt: skip
    key = key_of(run, facts)
    assert len(key) > 255
    assert max(map(len, key.split("/"))) <= run_index.SEGMENT_BYTES


def test_a_folder_has_no_index(local_run: StoredRun, tmp_path: Path) -> None:
    local_run.write_progress(PROGRESS)
    assert keys(local_run.store) == []


@pytest.mark.parametrize("dataset", ["thumos14", "a b&c=d,e%/ü", "x" * 2000, "123", "null"])
def test_facts_survive_in_a_key_whatever_names_they_hold(local_store: Store, dataset: str) -> None:
    facts = facts_of(PROGRESS, {"method": "tsp", "data": {"name": dataset}, "model": None})
    key = key_of("run.1", facts)
    assert len(key.encode()) <= run_index.MAX_KEY_BYTES
    local_store.write(key, b"")  # a folder, whose names are no longer than 255 bytes, as those of some servers
    assert read_index(local_store) == {"run.1": read_index(local_store)["run.1"]}
    assert read_index(local_store)["run.1"].facts == (facts if len(dataset) < 1000 else dataclasses.replace(
        facts, dataset=None, method=None, backbone=None, device=None))  # fmt: skip


def test_keys_that_are_none_of_ours_are_passed_over(local_store: Store) -> None:
    for name in ("a", "a,", "a,epoch=x", "a,epoch=1", "a,epoch=1&epochs=2&attempt=1&phase=p&best_epoch=[]", ",x=1"):
        local_store.write(f"{run_index.PREFIX}{name}", b"")
    assert read_index(local_store) == {}
