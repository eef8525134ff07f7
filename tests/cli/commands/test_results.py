"""``tspctl results`` of several runs: the best first, and what differs in their configurations."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Tspctl
from tsp.config.recipes import load_dataset, resolve
from tsp.run.results import EpochResult, HeadResult, format_line
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store

ACTION, REGION = "action-label", "temporal-region-label"


def trained(store: Path, name: str, accuracies: list[float], method: str = "tac", **overrides: Any) -> None:
    """A run of which only what ``results`` reads is there."""
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    config = resolve(
        load_dataset("demo"), method, name=name, store={"uri": str(store)}, root="/data", overrides=keys,
    )  # fmt: skip
    StoredRun(open_store(config.store), name).create(config, None)
    write_results(store / name, accuracies, [ACTION, REGION] if method == "tsp" else [ACTION])


def write_results(folder: Path, accuracies: list[float], columns: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for epoch, accuracy in enumerate(accuracies):
        heads = tuple(HeadResult(column, accuracy, 1.0) for column in columns)
        lines.append(format_line(EpochResult(epoch, heads, 1.0 * len(columns), accuracy)) + "\n")
    (folder / "results.txt").write_text("".join(lines))


@pytest.fixture
def runs(tspctl: Tspctl, local: Path) -> Path:
    trained(local, "low", [40.0, 50.0, 45.0], optim__head_lr=0.01)
    trained(local, "high", [60.0, 70.0], "tsp", optim__head_lr=0.02)
    trained(local, "new", [], optim__head_lr=0.01)
    trained(local, "diverged", [float("nan")], optim__head_lr=9.0)
    return local


def test_runs_are_sorted_by_their_best_epoch_with_what_differs(tspctl: Tspctl, runs: Path) -> None:
    found = tspctl("results", "new", "low", "diverged", "high", "-o", "json").json
    assert [(run["run"], run["best_epoch"]) for run in found] == [
        ("high", 1), ("low", 1), ("diverged", None), ("new", None),
    ]  # fmt: skip
    high, low, diverged, new = found
    assert (high["best"]["avg_accuracy_percent"], len(low["epochs"])) == (70.0, 3)
    assert {run["run"]: run["differs"]["optim.head_lr"] for run in found} == {
        "high": 0.02, "low": 0.01, "diverged": 9.0, "new": 0.01,
    }  # fmt: skip
    assert (high["differs"]["method"], new["differs"]["method"]) == ("tsp", "tac")
    assert not {"name", "store.uri", "data.root", "seed"} & low["differs"].keys()
    assert diverged["epochs"][0]["avg_accuracy_percent"] is None


def test_the_table_has_a_line_a_run_and_csv_every_column(tspctl: Tspctl, runs: Path) -> None:
    lines = tspctl("results", "low", "high").out.splitlines()
    assert [line.split()[0] for line in lines] == ["RUN", "high", "low"]
    assert "70.000" in lines[1]
    assert "optim.head_lr" in lines[0]
    rows = list(csv.DictReader(io.StringIO(tspctl("results", "low", "high", "new", "-o", "csv").out)))
    assert [(row["run"], row["best_epoch"], row["avg_accuracy_percent"], row["optim.head_lr"]) for row in rows] == [
        ("high", "1", "70.0", "0.02"), ("low", "1", "50.0", "0.01"), ("new", "", "", "0.01"),
    ]  # fmt: skip
    assert [row[f"{REGION}_percent"] for row in rows] == ["70.0", "", ""]
    assert [row["epochs"] for row in rows] == ["2", "3", "0"]


def test_epochs_of_one_run_are_csv_too(tspctl: Tspctl, runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(tspctl("results", "low", "-o", "csv").out)))
    assert [(row["epoch"], row["avg_accuracy_percent"]) for row in rows] == [
        ("0", "40.0"),
        ("1", "50.0"),
        ("2", "45.0"),
    ]


def test_curves_are_drawn_over_each_other(tspctl: Tspctl, runs: Path) -> None:
    pytest.importorskip("matplotlib")
    assert tspctl("results", "low", "high", "new", "--plot", "both.png").code == 0
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_one_name_and_of_the_original_are_told_apart(tspctl: Tspctl, runs: Path, home: Path) -> None:
    write_results(home / "other" / "low", [55.0], [ACTION])
    found = tspctl("results", "low", "./other/low", "-o", "json").json
    assert [run["run"] for run in found] == [str(home / "other" / "low"), str(runs / "low")]
    assert found[0]["differs"] == {}


def test_what_cannot_be_read_is_said_and_the_rest_shown(tspctl: Tspctl, runs: Path) -> None:
    (runs / "low" / "run.json").write_text("{")
    (runs / "high" / "epoch_0.json").write_text("{")
    ended = tspctl("results", "low", "high", "-o", "json")
    assert ended.code == 0
    assert [run["run"] for run in json.loads(ended.out)] == ["low", "high"]
    assert "low: its configuration is not compared" in ended.err
    assert "epoch_0.json is damaged" in ended.err
    (runs / "low" / "epoch_0.json").write_text("{")
    assert tspctl("results", "low", "high").code == 5
    assert tspctl("results", "low", "nobody").code == 102


def test_a_run_that_recorded_no_settings_makes_no_setting_differ(tspctl: Tspctl, runs: Path) -> None:
    write_results(runs / "original", [10.0], [ACTION])
    found = tspctl("results", "low", "new", str(runs / "original"), "-o", "json").json
    assert [run["differs"] for run in found] == [{}, {}, {}]
