"""One writer of a key on servers without conditional writes, on a store whose clock is ours to set."""

import dataclasses
from datetime import timedelta

import pytest

from tsp.errors import StoreError
from tsp.store import claims
from tsp.store.base import KeyExistsError, Store
from tsp.store.claims import CLAIM_SEC, only_writer


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes only where it is waited."""
    now, paused = [1000.0], []

    def sleep(sec: float) -> None:
        paused.append(sec)
        now[0] += sec

    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(claims.time, "sleep", sleep)
    return paused


def others_claim(store: Store, monkeypatch: pytest.MonkeyPatch, *, age_sec: float, lists: int = 10**6) -> None:
    """A claim of another writer, that much older than whatever is written now, for so many looks."""
    store.write("key.claim-other", b"")
    real, left = store.list, iter(range(lists))

    def listed(prefix=""):
        entries = list(real(prefix))
        newest = max(entry.modified for entry in entries)
        is_there = next(left, None) is not None
        return iter(
            dataclasses.replace(entry, modified=newest - timedelta(seconds=age_sec))
            if entry.key.endswith("other")
            else dataclasses.replace(entry, modified=newest)
            for entry in entries
            if is_there or not entry.key.endswith("other")
        )

    monkeypatch.setattr(store, "list", listed)


def test_whoever_is_alone_writes_at_once_and_leaves_no_claim(local_store: Store, pauses: list[float]) -> None:
    with only_writer(local_store, "key"):
        assert [entry.key.startswith("key.claim-") for entry in local_store.list()] == [True]
    assert (list(local_store.list()), pauses) == ([], [])


def test_what_is_there_is_not_written_again(local_store: Store, pauses: list[float]) -> None:
    local_store.write("key", b"first")
    with pytest.raises(KeyExistsError, match="key exists already"), only_writer(local_store, "key"):
        raise AssertionError
    assert [entry.key for entry in local_store.list()] == ["key"]


@pytest.mark.parametrize(("age_sec", "is_waited_for"), [(0, True), (CLAIM_SEC, True), (CLAIM_SEC + 1, False)])
def test_a_claim_counts_for_a_minute(local_store, pauses, monkeypatch, age_sec, is_waited_for) -> None:
    others_claim(local_store, monkeypatch, age_sec=age_sec, lists=3)
    with only_writer(local_store, "key"):
        assert len(pauses) == (3 if is_waited_for else 0)
        assert local_store.exists("key.claim-other") is is_waited_for, "one that counts no more is removed"
    assert all(0.1 <= pause <= claims.MOST_PAUSE_SEC for pause in pauses)


@pytest.mark.parametrize(("looks", "is_told"), [(1, False), (55, True)])
def test_who_waits_is_told_once_for_what(local_store, pauses, monkeypatch, caplog, looks, is_told) -> None:
    others_claim(local_store, monkeypatch, age_sec=0, lists=looks)
    with only_writer(local_store, "key"):
        pass
    said = [record.getMessage() for record in caplog.records]
    told = f"another process has claimed {local_store.address('key')}: waiting until it has written it, or for 60 s"
    assert [text.startswith(told) for text in said] == [True] * is_told


def test_who_waits_in_vain_is_told_after_two_minutes_for_whom(local_store, pauses, monkeypatch) -> None:
    others_claim(local_store, monkeypatch, age_sec=0)
    in_vain = pytest.raises(StoreError, match=r"for 120 s other writers have claimed it .*key\.claim-")
    with in_vain, only_writer(local_store, "key"):
        raise AssertionError
    assert 2 * CLAIM_SEC <= sum(pauses) < 2 * CLAIM_SEC + claims.MOST_PAUSE_SEC


def test_a_claim_that_took_half_a_minute_to_make_is_made_anew(local_store, pauses, monkeypatch) -> None:
    real, slow = local_store.write, [True]

    def write(key, data, **options):
        if slow and slow.pop():
            claims.time.sleep(CLAIM_SEC / 2)
        real(key, data, **options)

    monkeypatch.setattr(local_store, "write", write)
    with only_writer(local_store, "key"):
        assert len(pauses) == 2
