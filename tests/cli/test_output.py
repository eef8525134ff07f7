import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from cli.output import print_pairs, print_rows, print_value, show, show_duration, show_size, transfer_progress
from tests.cli.conftest import Tspctl

ROWS = [{"name": "a", "best": 97.5, "hidden": [1]}, {"name": "bb", "best": None}]


def test_rows_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, "table", columns=("name", "best"))
    assert capsys.readouterr().out == "NAME   BEST\na      97.5\nbb     -\n"
    print_rows(ROWS, "name", columns=("name",))
    assert capsys.readouterr().out == "a\nbb\n"
    print_rows(ROWS, "json", columns=("name",))
    assert json.loads(capsys.readouterr().out) == ROWS
    print_rows(ROWS, "yaml", columns=("name",))
    assert yaml.safe_load(capsys.readouterr().out) == ROWS


def test_json_stays_json_with_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_value({"loss": float("nan"), "when": datetime(2026, 1, 1, tzinfo=UTC)}, "json")
    assert json.loads(capsys.readouterr().out) == {"loss": None, "when": "2026-01-01T00:00:00+00:00"}


def test_a_terminal_gets_a_drawn_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_rows([{"name": "[bold]x[/]"}], "table", columns=("name",))
    shown = capsys.readouterr().out
    assert "─" in shown or "━" in shown
    assert "[bold]x[/]" in shown


def test_pairs_are_aligned_and_empty_ones_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs([("State", "running"), ("Reason", None), ("Best so far", 1)])
    assert capsys.readouterr().out == "State         running\nBest so far   1\n"


def test_figures_are_short() -> None:
    assert [show_duration(seconds) for seconds in (0, 59, 60, 3700, 200_000)] == [
        "0s",
        "59s",
        "1m00s",
        "1h01m",
        "2d07h",
    ]
    assert [show_size(size) for size in (512, 1536, 5 << 30)] == ["512 B", "1.5 KiB", "5.0 GiB"]
    assert [show(value) for value in (None, True, float("nan"), 1e-5, "x")] == ["-", "yes", "nan", "1e-05", "x"]
    assert show(datetime.now(UTC) - timedelta(minutes=5)) == "5m00s ago"


def test_a_download_off_a_terminal_says_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="cli"), transfer_progress("epoch_3.pth") as progress:
        for done in range(0, 1001):
            progress(done, 1000)
    assert [record.getMessage() for record in caplog.records][:2] == [
        "epoch_3.pth: 0% of 1000 B",
        "epoch_3.pth: 10% of 1000 B",
    ]
    assert len(caplog.records) == 11


def test_doctor_names_what_is_wrong(tspctl: Tspctl, local: Path) -> None:
    good = tspctl("doctor", "-o", "json")
    assert good.code == 0
    assert {"python", "settings", "store", "torch", "GPUs"} <= {finding["what"] for finding in good.json}
    bad = tspctl("doctor", "--store", "/proc/store")
    assert (bad.code, "/proc/store" in bad.out) == (1, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_tspctl(tspctl: Tspctl, shell: str) -> None:
    assert "_TSPCTL_COMPLETE" in tspctl("completion", shell).out
