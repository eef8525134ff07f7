"""One name on two machines that share a store: a run is trained, and deleted, by the one that trains it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.backends.local.run_folder import local_run
from tests.cli.conftest import Tspctl
from tests.waiting import wait_until

SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--name", "a")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Go to the other machine, and back."""
    homes = [str(local_run("a").folder.parents[2]), str(tmp_path / "elsewhere")]

    def switch() -> None:
        homes.reverse()
        monkeypatch.setenv("XDG_STATE_HOME", homes[0])

    return switch


def test_a_run_that_another_machine_trains_is_neither_resumed_nor_deleted_here(
    tspctl: Tspctl, local: Path, plan_ranks: Callable[..., None], elsewhere: Callable[[], None]
) -> None:
    plan_ranks(epochs=1, step_sec=600.0)
    assert tspctl(*SUBMIT).code == 0
    wait_until((local / "a" / "progress.json").exists, "it runs")
    owner = json.loads((local / "a" / "run.json").read_text())["owner"]

    files = {path.name: path.read_bytes() for path in local_run("a").folder.iterdir() if path.suffix == ".json"}
    elsewhere()
    # A submit of that name that was killed before it looked into the store.
    local_run("a").folder.mkdir(parents=True)
    for name, data in files.items():
        (local_run("a").folder / name).write_bytes(data.replace(owner.encode(), b"machine there (0)"))
    (local_run("a").folder / "supervisor.json").write_text('{"pid": 1, "started": "never", "phase": "submitting"}')

    refused = tspctl("resume", "a")
    assert refused.code == 2
    assert f"is being trained by {owner}" in refused.err
    assert tspctl("cancel", "a").code == 0
    assert not (local / "a" / "outcome.json").exists()
    deleted = tspctl("delete", "a", "--yes")
    assert deleted.code == 0
    assert f"is kept: it belongs to {owner}" in deleted.err
    assert not local_run("a").folder.exists()
    assert (local / "a" / "progress.json").exists()

    elsewhere()
    assert tspctl("cancel", "a", "--grace", "5").code == 0
    elsewhere()
    plan_ranks(epochs=1)
    assert tspctl("resume", "a").code == 0
    assert tspctl("wait", "a").code == 0
    wait_until(lambda: not local_run("a").is_supervised(), "its supervisor is gone")
    elsewhere()
    kept = tspctl("delete", "a", "--yes")
    assert kept.code == 0
    assert (local / "a" / "run.json").exists()
    assert tspctl("delete", "a", "--yes").code == 0
    assert not (local / "a").exists()
