"""Saved states of a run: the newest one is found, whatever breaks."""

from pathlib import Path

import pytest

from tests.run.stored import CrashError, MakeState, crash_at
from tsp.errors import MissingKeyError, StoreError
from tsp.run.stored_run import StoredRun
from tsp.store.base import Store, sha256_of


def test_the_newest_state_is_found_and_older_ones_go(run: StoredRun, make_state: MakeState, tmp_path: Path) -> None:
    published = [run.publish_state(*make_state(0, step)) for step in (10, 20, 30)]
    assert run.latest_state() == published[-1]
    kept = [entry.key for entry in run.store.list(run.key("state/")) if entry.key.endswith(".pth")]
    assert kept == [run.key(meta.key) for meta in published[1:]], "the newest, and the one before it"
    assert run.download_state(tmp_path / "state.pth") == published[-1]
    assert (tmp_path / "state.pth").read_bytes() == b"state at 0.30" * 100
    run.start_attempt()
    run.clear_state()
    assert run.latest_state() is None
    assert run.last_attempt() == 1
    with pytest.raises(MissingKeyError, match=r"state/latest\.json does not exist"):
        run.download_state(tmp_path / "state.pth")


def test_a_crash_at_any_point_of_saving_a_state_leaves_one_to_resume_from(
    local_store: Store, make_state: MakeState, tmp_path: Path
) -> None:
    changes = 0
    while True:
        run = StoredRun(local_store, f"run-{changes}")
        for step in (10, 20, 30):
            run.publish_state(*make_state(0, step))
        finished = True
        with pytest.MonkeyPatch.context() as patch:
            crash_at(local_store, patch, changes)
            try:
                run.publish_state(*make_state(0, 40))
            except CrashError:
                finished = False
        meta = run.download_state(tmp_path / "state.pth")
        assert meta == run.latest_state()
        assert meta.step == (30 if changes < 2 else 40)
        assert sha256_of(tmp_path / "state.pth") == meta.sha256
        run.publish_state(*make_state(0, 50))
        assert len([entry for entry in local_store.list(run.key("state/")) if entry.key.endswith(".pth")]) == 2
        if finished:
            break
        changes += 1
    assert changes == 3, "upload, pointer, deletion"


@pytest.mark.parametrize("harm", ["delete", "shorten", "lengthen", "damage"])
def test_a_lost_or_damaged_state_falls_back_to_the_one_before(
    run: StoredRun, make_state: MakeState, tmp_path: Path, harm: str
) -> None:
    before, newest = (run.publish_state(*make_state(1, step)) for step in (10, 20))
    key = run.key(newest.key)
    data = run.store.read(key)
    if harm == "delete":
        run.store.delete(key)
    else:
        harmed = {"shorten": data[:-1], "lengthen": data + b"?", "damage": data[:-1] + b"?"}
        run.store.write(key, harmed[harm])
    assert run.download_state(tmp_path / "state.pth").step == before.step
    if harm != "damage":
        found = run.latest_state()
        assert found is not None
        assert found.step == before.step
    run.store.delete(run.key(before.key))
    with pytest.raises(StoreError):
        run.download_state(tmp_path / "state.pth")


def test_saving_the_same_state_twice_keeps_its_fallback(local_run: StoredRun, make_state: MakeState) -> None:
    first = local_run.publish_state(*make_state(0, 10))
    for _ in range(2):
        local_run.publish_state(*make_state(0, 20))
    newest = local_run.latest_state()
    assert newest is not None
    assert newest.previous is not None
    assert newest.previous.key == first.key
