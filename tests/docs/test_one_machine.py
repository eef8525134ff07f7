"""Console blocks for one machine: typed as they stand, in the order of the pages, with runs that really train.

Absolute paths lie in the test's folder; THUMOS14 is the demo under its names; a tiny encoder and small clips make
seconds of hours. ``RUN`` is the newest run, ``OTHER_RUN`` the one before.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tests.cli.conftest import home as home
from tests.cli.conftest import tspctl as tspctl
from tests.docs.miniature import copy_published, copy_videos
from tests.docs.pages import ONE_MACHINE, Line, blocks, missing
from tsp.config import published_data
from tsp.config.published_data import PublishedFile
from tsp.store import published
from tsp.store.published import blob_id

SMALL = {
    "model.backbone": "tiny", "model.pretrained": "none", "batch_per_gpu": 8, "schedule.epochs": 1,
    "schedule.warmup_epochs": 0, "schedule.milestones": [], "clips.per_segment": 2, "clips.resize_height_px": 36,
    "clips.resize_width_px": 48, "clips.crop_px": 32, "data.workers": 0,
}  # fmt: skip
FEWER_VIDEOS = ("--train-videos", "2", "--valid-videos", "1")


class Shell:
    """Types lines, with what stands for something else replaced."""

    def __init__(self, tspctl: Tspctl, home: Path, monkeypatch: pytest.MonkeyPatch, endpoint_url: str) -> None:
        self.tspctl, self.home, self.monkeypatch = tspctl, home, monkeypatch
        self.replaced = {"https://s3.example": endpoint_url, "s3://my-bucket/runs": "s3://runs/documented"}
        self.runs: list[str] = []

    def type(self, line: Line) -> None:
        program, *words = line.words
        if program == "export":
            for name, _, value in (word.partition("=") for word in words):
                self.monkeypatch.setenv(name, self.actual(value))
            return
        assert program == "tspctl", f"a program that this test does not know: {line.text}"
        file = words[words.index(">") + 1] if ">" in words else None
        words = [self.actual(word) for word in (words[: words.index(">")] if file else words)]
        done = self.tspctl(*words, *(FEWER_VIDEOS if words[:2] == ["data", "demo"] else ()))
        assert done.code == 0, f"{line.text}\n{done.out}\n{done.err}"
        assert missing(line.shown, done.out) == [], f"{line.text}\n{done.out}"
        if file:
            (self.home / file).write_text(done.out)
        self.runs += done.out.split() if words[0] == "submit" else []
        if words[:2] == ["data", "demo"]:
            copy_published(self.home / "demo", self.home / "mirror", gvf="tiny-max_gvf.h5")
            copy_videos(self.home / "demo", self.home / "raw")
            files = (PublishedFile(path.name, blob_id(path)) for path in sorted((self.home / "mirror").iterdir()))
            self.monkeypatch.setitem(published_data.PUBLISHED_DATA, "thumos14", tuple(files))
            self.monkeypatch.setattr(published, "RAW_URL", str(self.home / "mirror"))

    def actual(self, word: str) -> str:
        if word in ("RUN", "OTHER_RUN"):
            return self.runs[-1 if word == "RUN" else -2]
        return f"{self.home}{word}" if word.startswith("/") else self.replaced.get(word, word)


@pytest.mark.slow(seconds=30)
def test_every_block_for_one_machine_does_what_it_says(
    tspctl: Tspctl, home: Path, s3_servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = s3_servers("rclone")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    settings = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in SMALL.items()]
    (home / "tspctl.toml").write_text("\n".join(["[set]", *settings]))
    shell = Shell(tspctl, home, monkeypatch, server.endpoint_url)
    for block in blocks():
        for line in block.lines if block.mark == ONE_MACHINE else ():
            print(f"$ {line.text}")
            shell.type(line)
    assert len(shell.runs) == 2
    for made in ("curve.png", "report.html", "run.csv"):
        assert (home / made).stat().st_size > 100, made
