"""Whatever a run's progress says can be shown."""

import dataclasses
from pathlib import Path

import pytest

from cli.runs.summary import RunSummary
from tests.cli.conftest import Tspctl
from tests.run.stored import PROGRESS
from tsp.config.recipes import load_dataset, resolve
from tsp.run.records import Outcome, Progress
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore


def test_every_field_of_a_runs_progress_has_one_in_the_report():
    known = {item.name for item in dataclasses.fields(RunSummary)} | {"world_size"}  # shown as gpus
    assert {item.name for item in dataclasses.fields(Progress)} <= known


@pytest.mark.parametrize("waiting_for", ["clips", "step 7", None])
def test_what_a_run_waits_for_is_shown_as_long_as_it_runs(tspctl: Tspctl, home: Path, waiting_for: str | None) -> None:
    run = StoredRun(LocalStore(home / "store"), "a")
    run.create(resolve(load_dataset("demo"), "tac", name="a", store={"uri": run.store.uri}, root="/data"), None)
    run.write_progress(dataclasses.replace(PROGRESS, waiting_for=waiting_for))
    words = ("status", home / "store/a")
    assert tspctl(*words, "-o", "json").json["waiting_for"] == waiting_for
    (shown,) = [
        line.split(maxsplit=2)[2] for line in tspctl(*words).out.splitlines() if line.startswith("Waiting for")
    ] or [None]
    assert shown == waiting_for
    run.write_outcome(Outcome(state="failed", exit_code=153, reason="stalled", attempt=1))
    assert tspctl(*words, "-o", "json").json["waiting_for"] is None
    assert "Waiting for" not in tspctl(*words).out
