"""A run in every kind of store: what is written in which order, and what a crash in between leaves."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.stored import PROGRESS, CrashError, MakeEpoch, crash_at
from tests.s3_servers import S3Server
from tests.stores import s3_store, with_seed
from tsp.config.run import RunConfig
from tsp.config.sizing import effective_sizes
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, DataError, MissingKeyError, NoSuchRunError, StoreError
from tsp.run.records import EpochRecord, Outcome, dump_record
from tsp.run.results import parse_results
from tsp.run.stored_run import StoredRun, list_runs
from tsp.store.base import Store, sha256_of
from tsp.store.local import LocalStore
from tsp.store.open import open_store
from tsp.store.s3.store import S3Store


def test_a_run_is_created_once_and_read_back(run: StoredRun, config: RunConfig) -> None:
    effective = effective_sizes(config, downscale=2)
    assert not run.exists()
    run.create(config, effective)
    assert run.exists()
    assert run.config() == config
    assert run.effective() == effective
    with pytest.raises(ConfigError, match=r"there is already a run at .*first-run: choose another --name"):
        run.create(config, effective)
    assert list(list_runs(run.store)) == ["first-run"]


def test_the_first_attempt_adds_what_the_run_is_made_with_and_later_ones_are_told_what_changed(
    run: StoredRun, config: RunConfig
) -> None:
    run.create(config, None)
    before = run.about()
    first = {"versions": {"torch": "2.15.0"}, "machine": {"gpu": "H200"}, "digests": {"train.csv": "ab" * 32}}
    assert run.record_origins(**first) == {}
    about = run.about()
    assert {key: about[key] for key in first} == first
    assert len(about["data_digest"]) == 64
    assert {key: about[key] for key in before} == before
    later = {"versions": {"torch": "2.16.0"}, "machine": {"gpu": "H200", "cpu": "new"}, "digests": {}}
    assert run.record_origins(**later) == {"torch": "2.16.0, was 2.15.0"}
    assert run.about() == about


def test_a_restarted_attempt_accepts_its_own_run_and_no_other(local_run: StoredRun, config: RunConfig) -> None:
    assert local_run.ensure(config, None)
    elsewhere = dataclasses.replace(
        config, gpus=4, store=StoreConfig(uri="s3://inside"), data=dataclasses.replace(config.data, workers=0)
    )
    assert not local_run.ensure(elsewhere, None)
    with pytest.raises(ConfigError, match="made with seed = 42, not 43: choose another --name"):
        local_run.ensure(with_seed(config, 43), None)
    other_rate = dataclasses.replace(config, optim=dataclasses.replace(config.optim, head_lr=0.5))
    with pytest.raises(ConfigError, match=r"optim\.head_lr = 0\.002, not 0\.5"):
        local_run.ensure(other_rate, None)


def test_a_restarted_attempt_with_another_head_is_refused(local_run: StoredRun, config: RunConfig) -> None:
    (head,) = config.model.heads
    another = dataclasses.replace(head, label_column="temporal-region-label")
    more = dataclasses.replace(config, model=dataclasses.replace(config.model, heads=(head, another)))
    local_run.ensure(config, None)
    with pytest.raises(ConfigError, match=r"made with model\.heads"):
        local_run.ensure(more, None)


@pytest.mark.parametrize(("created", "is_whole"), [(None, True), ("2030-01-01T00:00:00+00:00", True), ("then", False)])
def test_the_time_of_a_run_is_one_or_none(
    local_run: StoredRun, config: RunConfig, created: object, is_whole: bool
) -> None:
    local_run.create(config, None)
    about = local_run.about() | {"created": created}
    local_run.store.write(local_run.key("run.json"), json.dumps(about).encode())
    if is_whole:
        assert local_run.about()["created"] == created
        return
    with pytest.raises(StoreError, match=r"run\.json is damaged"):
        local_run.about()


def test_names_of_new_runs_are_checked(local_store: Store, config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="run name 'My_Run'"):
        StoredRun(local_store, "My_Run").create(config, None)


def test_a_run_that_is_not_there_says_so(run: StoredRun) -> None:
    with pytest.raises(NoSuchRunError, match=r"first-run is not there; see 'tspctl list'"):
        run.config()
    assert run.read_progress() is None
    assert run.read_outcome() is None
    assert run.latest_state() is None
    assert run.results() == {}
    assert run.attempts() == []
    with pytest.raises(DataError, match="no epoch has been validated yet"):
        run.best()


def test_progress_outcome_and_attempts_are_kept(run: StoredRun) -> None:
    assert [run.start_attempt(), run.start_attempt()] == [1, 2]
    run.write_progress(PROGRESS)
    run.write_outcome(Outcome(state="failed", exit_code=3, reason="bad data", attempt=2))
    outcome = run.read_outcome()
    assert run.read_progress() == PROGRESS
    assert outcome is not None
    assert (outcome.state, outcome.exit_code) == ("failed", 3)
    assert run.start_attempt() == 3
    assert run.read_outcome() is None, "a run that was started again has no outcome yet"


def test_logs_are_found_by_attempt_and_rank(run: StoredRun) -> None:
    for attempt, rank in ((1, 0), (10, 0), (10, 1), (2, 0)):
        run.store.write(run.log_key(attempt, rank), b"line\n")
    assert run.attempts() == [1, 2, 10]
    assert run.ranks(10) == [0, 1]
    assert run.ranks(3) == []


def test_an_epoch_is_published_and_fetched(run: StoredRun, make_epoch: MakeEpoch, tmp_path: Path) -> None:
    for epoch, accuracy in ((0, 40.0), (1, 60.0), (2, 50.0)):
        run.publish_epoch(*make_epoch(epoch, accuracy))
    assert list(run.epochs()) == [0, 1, 2]
    assert run.best().epoch == 1
    record = run.download_epoch(1, tmp_path / "best.pth")
    assert (tmp_path / "best.pth").read_bytes() == b"weights of epoch 1"
    assert record is not None
    assert record.sha256 == sha256_of(tmp_path / "best.pth")
    lines = run.store.read(run.key("results.txt")).decode().splitlines()
    assert lines == [record.results_line for record in run.epochs().values()]
    with pytest.raises(MissingKeyError, match=r"epoch 7 .* does not exist; there are: 0, 1, 2"):
        run.download_epoch(7, tmp_path / "no.pth")


def test_publishing_an_epoch_again_replaces_it(run: StoredRun, make_epoch: MakeEpoch, tmp_path: Path) -> None:
    run.publish_epoch(*make_epoch(0, 40.0))
    run.publish_epoch(*make_epoch(1, 30.0))
    run.publish_epoch(*make_epoch(0, 20.0, b"other weights"))
    assert run.best().epoch == 1
    assert run.store.read(run.key("results.txt")).decode().count("Epoch 0:") == 1
    run.download_epoch(0, tmp_path / "back.pth")
    assert (tmp_path / "back.pth").read_bytes() == b"other weights"


def test_a_crash_at_any_point_of_publishing_leaves_whole_epochs(
    local_store: Store, make_epoch: MakeEpoch, tmp_path: Path
) -> None:
    changes = 0
    while True:
        run = StoredRun(local_store, f"run-{changes}")
        run.publish_epoch(*make_epoch(0, 40.0))
        run.publish_epoch(*make_epoch(1, 10.0))
        finished = True
        with pytest.MonkeyPatch.context() as patch:
            crash_at(local_store, patch, changes)
            try:
                run.publish_epoch(*make_epoch(1, 90.0, b"better weights"))
            except CrashError:
                finished = False
        for epoch, record in run.epochs().items():
            run.download_epoch(epoch, tmp_path / "back.pth")
            assert record.result == run.results()[epoch]
        assert run.best().epoch in (0, 1)
        assert set(run.epochs()) <= set(run.checkpoints()) == {0, 1}
        run.publish_epoch(*make_epoch(1, 90.0, b"better weights"))
        assert run.best().epoch == 1
        assert local_store.read(run.key("results.txt")).decode().count("\n") == 2
        if finished:
            break
        changes += 1
    assert changes == 4, "delete the old record, upload, write the record, write the results"


def test_a_checkpoint_that_changed_on_its_way_is_not_published(run: StoredRun, make_epoch: MakeEpoch) -> None:
    path, record = make_epoch(0)
    path.write_bytes(b"half a ch")
    with pytest.raises(StoreError, match="was expected"):
        run.publish_epoch(path, record)
    assert run.epochs() == {}
    assert run.checkpoints() == {}


@pytest.mark.parametrize(
    ("keep_epochs", "left"),
    [(0, {0, 1, 2, 3, 4}), (1, {1, 4}), (2, {1, 3, 4}), (4, {0, 1, 2, 3, 4}), (9, {0, 1, 2, 3, 4})],
)
def test_as_many_checkpoints_stay_beside_the_best_as_asked_for_and_with_0_all(
    local_run: StoredRun, make_epoch: MakeEpoch, keep_epochs: int, left: set[int]
) -> None:
    for epoch, accuracy in enumerate([10.0, 90.0, 20.0, 30.0, 40.0]):
        local_run.publish_epoch(*make_epoch(epoch, accuracy))
    assert set(local_run.prune_epochs(keep_epochs)) == {0, 1, 2, 3, 4} - left
    assert set(local_run.checkpoints()) == left


def test_thinning_out_keeps_the_best_and_the_newest(
    local_run: StoredRun, make_epoch: MakeEpoch, tmp_path: Path
) -> None:
    for epoch, accuracy in enumerate([10.0, 90.0, 20.0, 30.0, 40.0, 35.0]):
        local_run.publish_epoch(*make_epoch(epoch, accuracy))
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(b"not validated yet")
    local_run.publish_checkpoint(6, path, sha256=sha256_of(path))
    assert local_run.prune_epochs(0) == []
    assert local_run.prune_epochs(2) == [0, 2, 3]
    assert set(local_run.checkpoints()) == {1, 4, 5, 6}
    assert local_run.prune_epochs(1) == [4]
    assert list(local_run.results()) == [0, 1, 2, 3, 4, 5], "figures stay"
    with pytest.raises(
        MissingKeyError, match=r"epoch 0 .* was deleted to save space \(keep_epochs\); there are: 1, 5, 6"
    ):
        local_run.download_epoch(0, tmp_path / "back.pth")


def test_without_a_best_epoch_nothing_is_thinned_out(local_run: StoredRun, make_epoch: MakeEpoch) -> None:
    for epoch in range(3):
        local_run.publish_epoch(*make_epoch(epoch, math.nan))
    assert local_run.prune_epochs(1) == []


@pytest.mark.parametrize("name", ["thumos14-tsp_Run.1 (copy)", ""])
def test_an_original_runs_folder_can_be_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "outputs" / name
    folder.mkdir(parents=True)
    lines = [f"** Valid Epoch {e}:  <action-label> Accuracy {a} Loss nan; Total Loss nan Avg Accuracy {a}"
             for e, a in ((0, "10.000"), (1, "55.500"), (2, "nan"), (1, "50.000"), (3, "49.999"))]  # fmt: skip
    (folder / "results.txt").write_text("\n".join([*lines, "trailing garb"]))
    for epoch in range(4):
        (folder / f"epoch_{epoch}.pth").write_bytes(f"weights {epoch}".encode())
    (folder / "checkpoint.pth").write_bytes(b"weights 3")
    run = StoredRun(open_store(StoreConfig(uri=str(tmp_path / "outputs"))), name)
    assert run.exists()
    assert list(run.results()) == [0, 1, 2, 3]
    assert run.best().avg_accuracy_percent == 50.0
    assert run.epochs() == {}
    assert run.download_epoch(run.best().epoch, tmp_path / "best.pth") is None
    assert (tmp_path / "best.pth").read_bytes() == b"weights 1"
    with pytest.raises(NoSuchRunError, match="original scripts"):
        run.config()


def test_listing_shows_runs_of_both_kinds_and_nothing_else(store: Store, config: RunConfig) -> None:
    StoredRun(store, "first-run").create(config, None)
    store.write("Original_1/results.txt", b"")
    store.write("only-checkpoints/epoch_0.pth", b"weights")
    store.write("features/video.h5", b"")
    store.write("notes.txt", b"")
    assert list(list_runs(store)) == ["Original_1", "first-run", "only-checkpoints"]


def test_deleting_a_run_leaves_its_neighbours(store: Store, config: RunConfig) -> None:
    for name in ("first-run", "first-run-2"):
        store.write(f"{name}/run.json", json.dumps({}).encode())
        store.write(f"{name}/state/latest.json", b"{}")
    StoredRun(store, "first-run").delete()
    assert list(list_runs(store)) == ["first-run-2"]
    with pytest.raises(ConfigError, match="a store, not a run"):
        StoredRun(store, "").delete()


def test_a_run_is_not_deleted_with_another_that_lies_in_its_folder(store: Store, config: RunConfig) -> None:
    for name in ("outer", "outer/inner"):
        store.write(f"{name}/run.json", b"{}")
        store.write(f"{name}/state/latest.json", b"{}")
    with pytest.raises(ConfigError, match=r"outer/inner is another run, which would be deleted with outer: move it"):
        StoredRun(store, "outer").delete()
    assert len(list(store.list())) == 4
    store.delete_all("outer/inner/")
    StoredRun(store, "outer").delete()
    assert list(store.list()) == []


def test_a_run_is_not_created_in_the_folder_of_another(store: Store, config: RunConfig) -> None:
    store.write("run.json", b"{}")
    with pytest.raises(ConfigError, match="give --store the folder that contains the other run"):
        StoredRun(store, "inner").create(config, None)
    assert [entry.key for entry in store.list()] == ["run.json"]


def test_a_damaged_run_json_is_named(local_run: StoredRun) -> None:
    local_run.store.write(local_run.key("run.json"), b"{}")
    with pytest.raises(StoreError, match=r"run\.json is damaged"):
        local_run.config()


def test_results_txt_has_an_epoch_that_a_lagging_list_does_not_show(
    local_run: StoredRun, make_epoch: MakeEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_run.publish_epoch(*make_epoch(0))
    before = list(local_run.store.list())
    monkeypatch.setattr(local_run.store, "list", lambda prefix="": iter(before))
    for epoch in (1, 2):
        local_run.publish_epoch(*make_epoch(epoch))
    text = local_run.store.read(local_run.key("results.txt")).decode()
    assert list(parse_results(text)) == list(local_run.certain_epochs()) == [0, 1, 2]


def test_results_txt_that_a_killed_attempt_left_behind_is_mended(local_run: StoredRun, make_epoch: MakeEpoch) -> None:
    local_run.publish_epoch(*make_epoch(0))
    path, record = make_epoch(1)
    local_run.publish_checkpoint(1, path, sha256=record.sha256)
    local_run.store.write(local_run.key("epoch_1.json"), dump_record(record))
    local_run.rebuild_results()
    assert list(parse_results(local_run.store.read(local_run.key("results.txt")).decode())) == [0, 1]


def test_a_deletion_that_breaks_off_leaves_a_run_that_can_be_deleted(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    run = StoredRun(store, "a")
    for key in ("run.json", "results.txt", "state/1-2-x.pth", "logs/attempt-1/rank-0.log"):
        store.write(run.key(key), b"x")
    real = LocalStore.delete

    def break_off(store, key):
        if "/state/" in key or "/logs/" in key:
            return real(store, key)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", break_off)
        with pytest.raises(KeyboardInterrupt):
            run.delete()
    assert sorted(entry.key for entry in store.list()) == ["a/results.txt", "a/run.json"]
    assert run.exists()
    run.delete()
    assert list(store.list()) == []


def test_two_submits_of_a_second_are_told_apart_though_an_answer_was_lost(
    s3_servers: Callable[[str], S3Server], config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write whose answer was lost counts as ours where the object holds what we wrote. Moto's honours conditions."""
    server = s3_servers("moto")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tsp.run.records.utc_now", lambda: "2030-01-01T00:00:00+00:00")
    monkeypatch.setattr(StoredRun, "exists", lambda run: False)
    monkeypatch.setattr(S3Store, "exists", lambda store, key: False)
    store = s3_store(server)
    StoredRun(store, "first-run").create(config, None)
    with pytest.raises(ConfigError, match="another run has just been created"):
        StoredRun(store, "first-run").create(config, None)


def test_a_record_that_another_attempt_writes_at_this_moment_stays(
    local_run: StoredRun, make_epoch: Callable[..., tuple[Path, EpochRecord]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the simulation: an attempt that was given up for lost publishes the same epoch."""
    path, record = make_epoch(0)
    load = local_run.load

    def meanwhile(cls: type, name: str) -> object:
        found = load(cls, name)
        local_run.store.write(local_run.key("epoch_0.json"), dump_record(record))
        return found

    monkeypatch.setattr(local_run, "load", meanwhile)
    local_run.publish_checkpoint(0, path, sha256=record.sha256)
    assert local_run.store.exists(local_run.key("epoch_0.json"))


def test_runs_that_are_known_are_not_looked_at_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        store.write(f"{name}/results.txt", b"")
    looked_at = []
    monkeypatch.setattr(StoredRun, "exists", lambda self: bool(looked_at.append(self.name)) or True)
    assert list(list_runs(store, known={"a"})) == looked_at == ["b"]


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_a_resumed_run_gets_as_many_attempts_again(local_run: StoredRun, config: RunConfig, attempts: int) -> None:
    local_run.create(config, None)
    for _ in range(attempts):
        local_run.start_attempt()
    more = local_run.with_more_attempts(config)
    assert more == dataclasses.replace(config, max_attempts=config.max_attempts + attempts)
