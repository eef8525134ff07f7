"""From raw videos to features: every line of the documented walk, as it stands, with the program as users call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.docs.pages import section, words_of

Tspctl = Callable[..., str]
SETTINGS = {
    # Its features only have to exist: what TSP learns it sees in the clips.
    "tac": {"schedule.epochs": 1, "schedule.warmup_epochs": 0, "schedule.milestones": [], "clips.per_segment": 1},
    # What an epoch less saves goes into larger pictures: in small ones, actions are hard to tell from none.
    "tsp": {
        "schedule.epochs": 3, "schedule.milestones": [2], "clips.per_segment": 4, "data.one_pass": True,
        "clips.resize_height_px": 80, "clips.resize_width_px": 106, "clips.crop_px": 72,
    },
}  # fmt: skip
"""What each run of the walk is trained with, beside small clips: seconds instead of minutes."""
SMALL = {"data.workers": 0, "clips.resize_height_px": 64, "clips.resize_width_px": 86, "clips.crop_px": 56}
GUESSING_PERCENT = 42


def write_settings(folder: Path, changes: dict[str, object]) -> None:
    """A settings file that changes the recipe as --set would, for every command that follows."""
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in (SMALL | changes).items()]
    (folder / "tspctl.toml").write_text("\n".join(["[set]", *lines]))


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(3600)
def test_the_walk_leads_from_raw_videos_to_features_of_a_model_that_has_learnt(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TSPCTL_", "XDG_"))}
    environment["HOME"] = str(tmp_path / "home")
    program = str(Path(sys.executable).with_name("tspctl"))

    def call(*words: str) -> str:
        done = subprocess.run([program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"tspctl {' '.join(words)}\n{done.stderr[-3000:]}"
        return done.stdout

    export, *steps = words_of(section("From raw videos to features"))
    assert export == ["export", "TSPCTL_BACKEND=local"]
    environment["TSPCTL_BACKEND"] = "local"
    for program_name, *words in steps:
        assert program_name == "tspctl"
        if words[0] == "submit":
            write_settings(tmp_path, SETTINGS[words[words.index("--name") + 1]])
        call(*words)

    epochs = json.loads(call("results", "tsp", "-o", "json"))["epochs"]
    best = max(epoch["avg_accuracy_percent"] for epoch in epochs)
    print(f"best epoch: {best} %")
    assert best > 2 * GUESSING_PERCENT
    with h5py.File(tmp_path / "data" / "tiny-max_gvf.h5") as gvf, h5py.File(tmp_path / "features.h5") as features:
        assert len(gvf) == len(features) == 36
        for name in features:
            assert (gvf[name].shape, features[name].shape[1], features[name].dtype) == ((512,), 512, np.float32)
