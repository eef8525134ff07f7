"""Folders that several processes and machines share, with and without file locks; clocks that differ; odd keys."""

import dataclasses
import errno
import hashlib
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fault_proxy import FaultProxy
from tests.s3_servers import S3Server
from tests.stores import s3_store
from tsp.errors import MissingKeyError, StoreError, StoreUnreachableError
from tsp.run.stored_run import StoredRun
from tsp.store import base, locks, owner
from tsp.store.base import Store, file_name_of, sha256_of
from tsp.store.fetch import fetch_object
from tsp.store.local import LocalStore
from tsp.store.owner import is_abandoned
from tsp.store.retry import RetryPolicy
from tsp.store.scratch import scratch
from tsp.store.transfer import InterruptedTransferError, Source, download

CONTENT = random.Random(1).randbytes(3 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ONCE = RetryPolicy(attempts=1)


def _refused(*_: Any) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.fixture(params=["locks", "refused", "granted to all"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One that locks, one that refuses to, one that grants every lock to everybody."""
    if request.param == "refused":
        monkeypatch.setattr(locks.fcntl, "flock", _refused)
    elif request.param == "granted to all":
        monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)
    return str(request.param)


def slow_source(
    *, cut_at: int | None = None, content: bytes = CONTENT, wait: Callable[[], object] = lambda: None
) -> Source:
    def chunks(offset_bytes: int) -> Iterator[bytes]:
        for start in range(offset_bytes, len(content), 1 << 18):
            if cut_at is not None and start >= cut_at:
                raise InterruptedTransferError
            wait()
            yield content[start : start + (1 << 18)]

    return Source(address="s3://b/k", size_bytes=len(content), version="1", chunks=chunks)


def test_two_fetches_to_one_destination_both_end_with_a_whole_file(tmp_path: Path, file_system: str) -> None:
    path, both = tmp_path / "best.pth", threading.Barrier(2, timeout=600)
    failures: list[BaseException] = []

    def fetch() -> None:
        try:
            download(slow_source(wait=both.wait), path, sha256=DIGEST)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sha256_of(path) == DIGEST
    assert os.listdir(tmp_path) == ["best.pth"]


def test_two_processes_that_fetch_to_one_destination_both_end_with_a_whole_file(
    tmp_path: Path, file_system: str
) -> None:
    """Each tells by the other's part alone that it is still being written."""
    path = tmp_path / "best.pth"
    context = multiprocessing.get_context("fork")
    both = context.Barrier(2, timeout=600)

    def fetch() -> None:
        download(slow_source(wait=both.wait), path, sha256=DIGEST)

    processes = [context.Process(target=fetch) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sha256_of(path) == DIGEST
    assert os.listdir(tmp_path) == ["best.pth"]


def test_what_a_process_that_ended_left_is_gone_on_with_also_without_locks(tmp_path: Path, file_system: str) -> None:
    path = tmp_path / "best.pth"
    with pytest.raises(StoreUnreachableError):
        download(slow_source(cut_at=2 << 20), path, sha256=DIGEST, retry=ONCE)
    (part,) = tmp_path.iterdir()
    # As if it had been another process, which is gone.
    ended = part.with_name(part.name.replace(f"-{os.getpid()}-", "-4194999-"))
    part.rename(ended)
    asked: list[int] = []

    def chunks(offset_bytes: int) -> Iterator[bytes]:
        asked.append(offset_bytes)
        yield CONTENT[offset_bytes:]

    download(Source(address="s3://b/k", size_bytes=len(CONTENT), version="1", chunks=chunks), path, sha256=DIGEST)
    assert asked == [2 << 20]
    assert os.listdir(tmp_path) == ["best.pth"]


def test_a_damaged_part_of_somebody_else_does_not_accuse_the_store(tmp_path: Path, file_system: str) -> None:
    path = tmp_path / "best.pth"
    with pytest.raises(StoreUnreachableError):
        download(slow_source(cut_at=1 << 20), path, sha256=DIGEST, retry=ONCE)
    (part,) = tmp_path.iterdir()
    part.write_bytes(b"\0" * (1 << 20))
    download(slow_source(), path, sha256=DIGEST)
    assert sha256_of(path) == DIGEST
    with pytest.raises(StoreError, match="is damaged"):
        download(slow_source(content=CONTENT[::-1]), path, sha256=DIGEST)
    assert sha256_of(path) == DIGEST


def test_a_part_that_another_machine_writes_is_left_alone_until_it_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)
    part = tmp_path / ".best.pth.abc.0123abcd-7-89abcdef.part"
    part.write_bytes(b"x")
    # This machine's clock is a day ahead of the file server's: only the latter counts.
    monkeypatch.setattr(time, "time", lambda: datetime(2099, 1, 1, tzinfo=UTC).timestamp())
    assert not is_abandoned(part)
    old = part.stat().st_mtime - owner.ABANDONED_AFTER_SEC - 5
    os.utime(part, (old, old))
    assert is_abandoned(part)


def test_a_failed_fetch_leaves_no_empty_part(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError):
        download(slow_source(cut_at=0), tmp_path / "best.pth", retry=ONCE)
    assert os.listdir(tmp_path) == []


def test_a_part_that_somebody_removes_or_writes_to_is_not_published(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"

    def meddle() -> None:
        for part in tmp_path.glob(".best*"):
            with open(part, "ab") as file:
                file.write(b"not ours")

    with pytest.raises(StoreError, match="another program changes or removes"):
        download(slow_source(wait=meddle), path, sha256=DIGEST)
    assert not path.exists()


def test_scratch_folders_of_running_processes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with scratch() as first:
        (first / "mine").touch()
        with scratch():
            assert (first / "mine").exists()
    assert not first.exists()


def test_weights_are_fetched_into_a_shared_cache_without_locks(
    s3_server: S3Server, tmp_path: Path, file_system: str
) -> None:
    store = s3_store(s3_server)
    store.write("weights.pth", CONTENT)
    for _ in range(2):
        path = fetch_object(store.address("weights.pth"), tmp_path, settings=s3_server.config(), sha256=DIGEST)
        assert sha256_of(path) == DIGEST


@pytest.mark.parametrize("key", ["run/a//b", "run/ü€/x", "run/a b+c%2F", "run/-rf", "run/%", "run/'\"<&>"])
def test_odd_keys_are_listed_fetched_and_deleted_by_their_full_key(
    key: str, s3_servers: Callable[[str], S3Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = s3_servers("moto")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    store: Any = s3_store(server)
    for each in (key, "run/a/b", "run2/x"):
        store.bucket.client.put_object(Bucket=server.bucket, Key=store.prefix.full(each), Body=each.encode())
    store.bucket.client.put_object(Bucket=server.bucket, Key=store.prefix.full("run/folder/"), Body=b"")
    entries = {entry.key: entry for entry in store.list("run/")}
    assert set(entries) == {key, "run/a/b"}
    path = tmp_path / file_name_of(key)
    for entry in (entries[key], None):
        store.download(key, path, entry=entry)
        assert path.read_bytes() == key.encode()
    StoredRun(store, "run").delete()
    assert list(store.prefix.items("")) == list(store.prefix.items("run2/"))
    assert store.read("run2/x") == b"run2/x"


@pytest.mark.parametrize("key", ["a//b", "../../etc/x", "a/./b", "a\0b", "a/..", "a/%"])
def test_file_names_of_keys_stay_in_their_folder(key: str, tmp_path: Path) -> None:
    path = (tmp_path / file_name_of(key)).resolve()
    assert path.is_relative_to(tmp_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert file_name_of("a/b.c") == "a/b.c"


def test_one_key_that_cannot_be_deleted_does_not_keep_the_others(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        local_store.write(f"run/{name}", b"x")
    delete = LocalStore.delete

    def refuse(self: LocalStore, key: str) -> None:
        if key == "run/a":
            raise StoreError("run/a is refused")
        delete(self, key)

    monkeypatch.setattr(LocalStore, "delete", refuse)
    with pytest.raises(StoreError, match="run/a is refused"):
        base.Store.delete_all(local_store, "run/")
    assert [entry.key for entry in local_store.list()] == ["run/a"]


def test_ages_are_by_the_clock_of_the_store(store: Store) -> None:
    run = StoredRun(store, "first-run")
    assert run.written_ago_sec() is None
    store.write("first-run/progress.json", b"{}")
    ago_sec = run.written_ago_sec()
    assert ago_sec is not None
    assert 0 <= ago_sec < 600
    now = store.now()
    assert now.tzinfo is not None
    assert abs(now - store.stat("first-run/progress.json").modified) < timedelta(seconds=600)
    with pytest.raises(MissingKeyError):
        store.stat("first-run/other.json")


@pytest.mark.parametrize("days", [-1, 1])
def test_a_run_in_a_store_whose_clock_differs_from_this_machines_is_as_old_as_it_is_there(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    ahead, written_before = timedelta(days=days), timedelta(hours=2)
    stat = LocalStore.stat

    def there(self: LocalStore, key: str) -> base.Entry:
        entry = stat(self, key)
        age = written_before if key.startswith("first-run/") else timedelta()
        return dataclasses.replace(entry, modified=entry.modified + ahead - age)

    monkeypatch.setattr(LocalStore, "stat", there)
    run = StoredRun(local_store, "first-run")
    local_store.write("first-run/progress.json", b"{}")
    for age_sec in (run.written_ago_sec(), run.progress_age_sec()):
        assert age_sec == pytest.approx(7200, abs=600)
    assert local_store.now() - datetime.now(UTC) == pytest.approx(ahead, abs=timedelta(seconds=600))


def in_gmt(there: datetime) -> str:
    return format_datetime(there, usegmt=True)


def without_zone(there: datetime) -> str:
    return format_datetime(there.replace(tzinfo=None))


def with_a_second(there: datetime) -> str:
    """As of a proxy that adds its own."""
    return f"{in_gmt(there)}, {in_gmt(there)}"


@pytest.mark.parametrize(
    ("days", "status", "spell"),
    [(-1, 200, in_gmt), (1, 200, in_gmt), (1, 403, in_gmt), (1, 200, without_zone), (1, 200, with_a_second)],
)
def test_the_clock_of_a_bucket_is_its_servers(
    s3_server: S3Server, days: int, status: int, spell: Callable[[datetime], str]
) -> None:
    """By the date of whatever it answers, also to who may do nothing."""
    there = datetime.now(UTC) + timedelta(days=days)
    answer = (status, {"Date": spell(there)}, b"")
    with FaultProxy(s3_server.endpoint_url, instead=lambda method, path: answer) as proxy:
        found = s3_store(s3_server, endpoint_url=proxy.url).now()
    assert abs(found - there) < timedelta(seconds=600)
