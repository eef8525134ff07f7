"""One run of the real program, so that what the pretended ranks stand for cannot drift away from it."""

from pathlib import Path

import pytest

from cli.backends.local import launch as local_launch
from cli.backends.local.launch import ENTRYPOINT
from tests.cli.conftest import Tspctl

pytest.importorskip("torch")
SMALL = ("clips.crop_px=32", "clips.resize_height_px=36", "clips.resize_width_px=48", "clips.per_segment=1")


@pytest.mark.slow(seconds=20)
def test_a_real_run_fails_with_its_reason_is_repaired_resumed_and_fetched(
    tspctl: Tspctl, local: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_launch, "ENTRYPOINT", ENTRYPOINT)
    made = tspctl("data", "demo", "real", "--train-videos", "2", "--valid-videos", "1", "-o", "json")
    assert (made.code, isinstance(made.json, dict)) == (0, True), made.err
    video = home / "real" / "train" / "train_000.mp4"
    good = video.read_bytes()
    video.write_bytes(b"a web page, say")

    options = [word for assignment in SMALL for word in ("--set", assignment)]
    recipe = ("--dataset", "demo", "--method", "tac", "--data", "real", "--epochs", "2", "--batch-per-gpu", "4")
    run = (*recipe, "--name", "a", "--workers", "0", "--max-attempts", "3")
    assert tspctl("submit", *run, *options, "--follow").code == 100
    shown = tspctl("status", "a", "-o", "json").json
    assert (shown["state"], shown["exit_code"], shown["attempt"]) == ("failed", 3, 1)
    assert "train_000.mp4" in shown["reason"]

    video.write_bytes(good)
    assert tspctl("resume", "a").code == 0
    followed = tspctl("logs", "a", "-f")
    assert followed.code == 0, followed.err
    shown = tspctl("status", "a", "-o", "json").json
    assert (shown["state"], shown["epochs"], shown["global_batch"], shown["phase"]) == ("succeeded", 2, 4, "done")
    assert [row["epoch"] for row in tspctl("results", "a", "-o", "json").json["epochs"]] == [0, 1]
    path = Path(tspctl("fetch-best", "a").out.strip())
    assert path.stat().st_size > 100_000

    # The same lines are in the store for those who look from elsewhere.
    consoles = followed.out.splitlines()
    stored = tspctl("logs", str(local / "a")).out.splitlines()
    assert any("train_000.mp4" in line for line in stored)
    assert any("** Valid Epoch 1:" in line for line in stored)
    assert set(stored) <= set(consoles)
