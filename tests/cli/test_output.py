import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from cli.commands.list import FIRST_TO_GO, LIST_COLUMNS
from cli.output import fitting_columns, print_pairs, print_rows, print_table, print_value
from tsp.wording import harmless

ROWS = [{"name": "a", "best": 97.5, "hidden": [1]}, {"name": "bb", "best": None}]


def test_rows_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, "table", columns=("name", "best"))
    assert capsys.readouterr().out == "NAME   BEST\na      97.5\nbb     -\n"

    print_rows(ROWS, "json", columns=("name",))
    assert json.loads(capsys.readouterr().out) == ROWS
    print_rows(ROWS, "yaml", columns=("name",))
    assert yaml.safe_load(capsys.readouterr().out) == ROWS


@pytest.mark.parametrize("output", ["json", "yaml"])
@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "a\u202eb", "\x07\r\n\t", "Übung"])
def test_json_and_yaml_hold_any_text_without_acting_on_a_terminal(
    capsys: pytest.CaptureFixture[str], output: str, text: str
) -> None:
    print_value({"name": text}, output)
    printed = capsys.readouterr().out
    assert harmless(printed) == printed
    assert yaml.safe_load(printed) == {"name": text}


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


LONG_NAME = "tsp-thumos14-r2plus1d-34-nogvf-20260728-093000"


def drawn(
    columns: int, rows: list[dict[str, object]], of: tuple[str, ...], first_to_go: tuple[str, ...] = ()
) -> list[str]:
    """Lines of a table on a terminal of that width, by a program of its own."""
    program = (
        "import json, sys; from cli.output import print_rows; sys.stdout.isatty = lambda: True; "
        "rows, of, go = json.loads(sys.argv[1]); print_rows(rows, 'table', columns=of, first_to_go=go)"
    )
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb", "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", program, json.dumps([rows, of, first_to_go])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("columns", [20, 60, 80, 120])
def test_a_name_is_never_cut_or_wrapped(columns: int) -> None:
    reason = "rank 1 ended with exit code 3 (bad data): " + "clip 7 of video_3.mp4 is broken; " * 4
    row = {
        "name": LONG_NAME, "state": "failed", "progress": "3/8", "best": "97.500 % (epoch 2)", "gpus": 8,
        "kind": "train", "created": "5m00s ago", "reason": reason,
    }  # fmt: skip
    lines = drawn(columns, [row, {**row, "name": "b"}], LIST_COLUMNS, FIRST_TO_GO)
    assert sum(LONG_NAME in line for line in lines) == 1
    assert all(len(line.rstrip()) <= max(columns, len(LONG_NAME) + 2) for line in lines)
    if columns == 120:
        # What is wrapped is all there.
        words = " ".join(lines).split()
        assert words.count("video_3.mp4") == 2 * 4


def test_what_is_least_wanted_goes_first() -> None:
    assert fitting_columns([46, 9, 8, 60], 60, (3, 2, 1)) == [0, 1]
    assert fitting_columns([46, 9, 8, 60], 80, (2, 1, 3)) == [0, 3]
    assert fitting_columns([46, 9, 8, 60], 120, (3, 2, 1)) == [0, 1, 2, 3]
    assert fitting_columns([99], 60, ()) == [0]


@pytest.mark.parametrize("text", ["train.py:100: loss", "[red]x[/red]", "[/]", ":smile:"])
def test_text_of_others_is_shown_as_it_is(text: str) -> None:
    assert any(text in line for line in drawn(120, [{"name": text, "reason": text}], ("name", "reason")))


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_any_encoding_of_a_terminal_shows_any_text(home: Path, encoding: str) -> None:
    (home / "runs" / "Lauf-\u20ac-\u00e9").mkdir(parents=True)
    (home / "runs" / "Lauf-\u20ac-\u00e9" / "results.txt").write_text("")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"}
    arguments = ["list", "--backend", "local", "--store", str(home / "runs")]
    for output in ("table", "json", "yaml", "name"):
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments, "-o", output], env=environment, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        if output == "json":
            assert json.loads(done.stdout.decode(encoding))[0]["name"] == "Lauf-\u20ac-\u00e9"
        if output == "yaml":
            assert yaml.safe_load(done.stdout.decode(encoding))[0]["name"] == "Lauf-\u20ac-\u00e9"


def test_a_column_without_a_title_that_has_no_room_is_called_by_what_it_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    with caplog.at_level("INFO"):
        print_table(["EPOCH", "AVG ACCURACY %", ""], [["0", "84.766", ""], ["1", "98.958", "best"]])
    assert "no room for AVG ACCURACY %, best: widen the terminal" in caplog.text
