"""Who may train a run that several machines or namespaces can reach."""

import os
import re
import time

import pytest

from tsp.config.run import RunConfig
from tsp.run.ownership import (
    QUIET_SEC,
    SIGNS_OF_LIFE,
    HeldElsewhereError,
    check_still,
    is_anothers,
    owner_of,
    refuse_anothers,
    take,
)
from tsp.run.records import Outcome
from tsp.run.stored_run import StoredRun
from tsp.run.uploader import Uploader
from tsp.store.base import Store

HERE, THERE = "machine here (1)", "machine there (2)"


@pytest.fixture
def run(local_run: StoredRun) -> StoredRun:
    """It has begun to train."""
    local_run.start_attempt()
    return local_run


def fall_silent(run: StoredRun) -> None:
    """As if nothing had been written for long."""
    long_ago = time.time() - QUIET_SEC - 60
    for name in SIGNS_OF_LIFE:
        path = run.store.local_path(run.key(name))
        if path is not None and path.exists():
            os.utime(path, (long_ago, long_ago))


def end(run: StoredRun) -> None:
    run.write_outcome(Outcome(state="cancelled", exit_code=143, reason="asked for", attempt=1))


def test_the_first_to_train_a_run_owns_it(run: StoredRun) -> None:
    assert owner_of(run) is None
    take(run, HERE)
    take(run, HERE)
    assert owner_of(run) == HERE
    assert is_anothers(run, THERE)
    assert not is_anothers(run, HERE)
    assert not is_anothers(run, None)


def test_a_run_that_is_trained_is_refused_to_others_with_who_trains_it(run: StoredRun) -> None:
    take(run, HERE)
    for refused in (take, refuse_anothers):
        with pytest.raises(
            HeldElsewhereError, match=r"is being trained by machine here \(1\), which wrote \d+ s ago"
        ) as error:
            refused(run, THERE)
        assert f"tspctl resume {run.name} --force" in str(error.value)
        minutes = re.search(r"silent for (\d+) minutes", str(error.value))
        assert 60 * int(minutes[1]) == QUIET_SEC
    assert owner_of(run) == HERE


@pytest.mark.parametrize("over", [end, fall_silent])
def test_a_run_that_ended_or_fell_silent_can_be_taken_over_and_back(run: StoredRun, over: object) -> None:
    run.start_attempt()
    take(run, HERE)
    assert callable(over)
    over(run)
    take(run, THERE)
    with pytest.raises(HeldElsewhereError, match="has just taken over"):
        check_still(run, HERE)
    check_still(run, THERE)
    run.start_attempt()
    with pytest.raises(HeldElsewhereError):
        take(run, HERE)
    over(run)
    take(run, HERE)
    assert owner_of(run) == HERE


def test_force_takes_over_at_once(run: StoredRun) -> None:
    take(run, HERE)
    take(run, THERE, force=True)
    assert owner_of(run) == THERE


def test_whoever_goes_on_while_another_takes_over_keeps_the_run(
    run: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome is seen, then it is gone: the other one's next attempt began in between."""
    take(run, HERE)
    end(run)
    write = run.store.write

    def meanwhile(key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        write(key, data, only_if_absent=only_if_absent)
        if "owner-2" in key:
            run.start_attempt()

    monkeypatch.setattr(run.store, "write", meanwhile)
    with pytest.raises(HeldElsewhereError):
        take(run, THERE)
    assert owner_of(run) == HERE


def test_of_two_that_take_over_at_once_one_wins(run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    take(run, HERE)
    end(run)
    write = run.store.write

    def first(key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        monkeypatch.setattr(run.store, "write", write)
        take(run, "namespace b")
        write(key, data, only_if_absent=only_if_absent)

    monkeypatch.setattr(run.store, "write", first)
    with pytest.raises(HeldElsewhereError, match="has just taken over"):
        take(run, THERE)
    assert owner_of(run) == "namespace b"


def test_a_damaged_file_means_somebody(run: StoredRun) -> None:
    run.store.write(run.key("state/owner-1.json"), b"{")
    with pytest.raises(HeldElsewhereError, match="an unknown machine"):
        take(run, HERE)


def test_ranks_without_a_name_are_not_checked(run: StoredRun) -> None:
    take(run, HERE)
    take(run, "")
    check_still(run, "")
    assert owner_of(run) == HERE


def test_the_one_that_made_run_json_owns_it(local_store: Store, config: RunConfig) -> None:
    run = StoredRun(local_store, config.name)
    run.create(config, None, owner=HERE)
    assert owner_of(run) == HERE
    with pytest.raises(HeldElsewhereError):
        take(run, THERE)


def test_a_writer_gives_up_before_its_silence_means_that_it_is_dead(run: StoredRun) -> None:
    uploader = Uploader(run)
    uploader.close()
    assert uploader.give_up_after_sec * 1.4 < QUIET_SEC
