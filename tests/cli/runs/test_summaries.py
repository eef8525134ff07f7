"""Listing many local runs: what it costs is counted, since a machine that is busy tells no time."""

import shutil
from pathlib import Path

import pytest

from cli.backends.local.run_folder import local_run
from tests.cli.backends.local.test_backend import Plan
from tests.cli.conftest import Tspctl
from tests.waiting import wait_until
from tsp.store.local import LocalStore

NUM_RUNS = 40


@pytest.fixture
def many_runs(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> Path:
    """Runs that ended, copied from one that did. Returns: the store's folder."""
    plan_ranks(epochs=3, best=True)
    assert tspctl("submit", "--dataset", "demo", "--method", "tac", "--name", "run-0", "--follow").code == 0
    wait_until(lambda: not local_run("run-0").is_supervised(), "its supervisor is gone")
    for number in range(1, NUM_RUNS):
        for folder in (local / "run-0", local_run("run-0").folder):
            shutil.copytree(folder, folder.with_name(f"run-{number}"))
    return local


def test_a_table_of_ended_local_runs_takes_three_small_reads_a_run(
    tspctl: Tspctl, many_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path | str] = []
    read_state, read_store = Path.read_bytes, LocalStore.read

    def count_state(path: Path) -> bytes:
        if path.suffix == ".json":
            reads.append(path)
        return read_state(path)

    def count_store(store: LocalStore, key: str, *, offset_bytes: int = 0) -> bytes:
        reads.append(key)
        return read_store(store, key, offset_bytes=offset_bytes)

    def walk(*_: object) -> None:
        raise AssertionError("a run's folder was walked")

    monkeypatch.setattr(Path, "read_bytes", count_state)
    monkeypatch.setattr(LocalStore, "read", count_store)
    monkeypatch.setattr(LocalStore, "list", walk)
    lines = tspctl("list").out.splitlines()
    assert len(lines) == NUM_RUNS + 1
    assert all("75.000 % (epoch 1)" in line for line in lines[1:])
    # launch.json and outcome.json of this machine, progress.json of the store.
    assert len(reads) == 3 * NUM_RUNS


def test_names_alone_are_read_from_no_store(tspctl: Tspctl, many_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the store was read")

    monkeypatch.setattr(LocalStore, "read", refuse)
    assert len(tspctl("list", "-o", "name").out.split()) == NUM_RUNS


def test_json_has_all_that_status_has(tspctl: Tspctl, many_runs: Path) -> None:
    row = next(row for row in tspctl("list", "-o", "json").json if row["name"] == "run-0")
    assert (row["method"], row["dataset"], row["best_epoch"]) == ("tac", "demo", 1)
    assert row.keys() == tspctl("status", "run-0", "-o", "json").json.keys()


def test_a_damaged_run_that_only_the_store_has_is_shown_beside_the_others(tspctl: Tspctl, local: Path) -> None:
    date = '{"config": {}, "created": "soon"}'
    texts = {"empty": "", "list": "[]", "null": "null", "config": '{"config": []}', "date": date}
    for name, text in texts.items():
        (local / name).mkdir(parents=True)
        (local / name / "run.json").write_text(text)
    (local / "good").mkdir()
    (local / "good" / "results.txt").write_text("")
    (local / "late").mkdir()
    (local / "late" / "run.json").write_text('{"config": {}}')
    (local / "late" / "outcome.json").write_text(
        '{"state": "failed", "exit_code": 1, "reason": "x", "attempt": 1, "ended": "never"}'
    )
    rows = {row["name"]: row["state"] for row in tspctl("list", "-o", "json").json}
    assert rows["good"] == "unknown"
    assert {rows[name] for name in ("empty", "list", "null", "late")} == {"damaged"}
    for name in rows:
        assert "unexpected" not in tspctl("status", name).err, name
