"""What others wrote (names of files, logs in a bucket) does not act on the terminal that it is shown on."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.backends.base import LogLine
from cli.runs.logs import show_line
from tests.videos import Made, write_video
from tsp.wording import harmless

ACTS = "\x1b]0;title\x07\x1b[2J\x9b2J\u202e"


def tspctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with all processes that it starts, which write to the same terminal."""
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="surrogateescape")


def test_a_line_of_a_log_is_shown_as_text() -> None:
    line = LogLine(time=datetime(2026, 1, 1, tzinfo=UTC), rank=0, text=f"\x1b[31mERROR\x1b[0m {ACTS}")
    shown = show_line(line, timestamps=False)
    assert shown == "[rank 0] ERROR " + r"\x1b]0;title\x07\x1b[2J\x9b2J\u202e"


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_a_name_of_a_video_is_shown_as_text_in_results_and_warnings(home: Path, output: str) -> None:
    (home / "videos").mkdir()
    write_video(home / "videos" / f"good{ACTS}.mp4", Made(num_frames=3))
    (home / "videos" / f"bad{ACTS}.mp4").write_bytes(b"no video")
    end = tspctl("data", "probe", "videos", "-o", output)
    assert end.returncode == 3
    assert "good" in end.stdout
    assert "bad" in end.stderr
    for text in (end.stdout, end.stderr):
        assert harmless(text) == text


@pytest.mark.parametrize(
    "command",
    [
        ("submit", "--dataset", f"{ACTS}.yaml", "--method", "tac"),
        ("submit", "--dataset", "demo", "--method", "tac", "--set", f"{ACTS}=1"),
        ("status", f"run{ACTS}"),
        ("data", "check", "--dataset", "demo", "--method", "tac", "--data", f"{ACTS}"),
        ("features", "info", f"{ACTS}.h5"),
        ("extract", f"{ACTS}.pth", "--metadata", f"{ACTS}.csv", "--out", "a.h5", "--data", "."),
    ],
)
@pytest.mark.usefixtures("home")
def test_errors_show_names_as_text(command: tuple[str, ...]) -> None:
    end = tspctl(*command, "--backend", "local")
    assert end.returncode
    assert "2J" in end.stderr
    assert harmless(end.stderr) == end.stderr
