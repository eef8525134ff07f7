"""TAC, GVF, TSP: one command each, on the demo's videos, with the program as users call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

Tspctl = Callable[..., str]


@pytest.fixture
def tspctl(tmp_path: Path) -> Tspctl:
    """Calls the program in a folder of its own; what it says on stdout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TSPCTL_")}
    environment |= {
        "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "TSPCTL_STORE": str(tmp_path / "store"), "TSPCTL_DATA": str(tmp_path / "data"), "TSPCTL_BACKEND": "local",
    }  # fmt: skip
    program = str(Path(sys.executable).with_name("tspctl"))

    def call(*words: str) -> str:
        done = subprocess.run([program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"tspctl {' '.join(words)}\n{done.stderr[-3000:]}"
        return done.stdout

    return call


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tsp_learns_the_demo_with_global_features_from_its_own_tac_run(tspctl: Tspctl, tmp_path: Path) -> None:
    tspctl("data", "demo", "data", "--train-videos", "24", "--valid-videos", "6")
    tspctl("data", "probe", "data", "--out", "data/videos.csv", "-o", "json")
    quick = ("--set", "data.workers=0", "--set", "clips.per_segment=2")
    gvf = ("--set", "data.train.gvf=own.h5", "--set", "data.valid.gvf=own.h5")

    tspctl("submit", "--dataset", "demo", "--method", "tac", "--name", "tac", "--epochs", "3", *quick, "--follow")
    tspctl("gvf", "tac", "--data", "data", "--metadata", "data/videos.csv", "--out", "data/own.h5")
    tspctl("submit", "--dataset", "demo", "--method", "tsp", "--name", "tsp", *gvf, *quick, "--follow")

    with h5py.File(tmp_path / "data" / "own.h5") as file:
        assert len(file) == 30
        assert {file[name].shape for name in file} == {(512,)}
    epochs = json.loads(tspctl("results", "tsp", "-o", "json"))["epochs"]
    # Guessing gives 42 %.
    best = max(epoch["avg_accuracy_percent"] for epoch in epochs)
    print(f"best epoch: {best} %")
    assert best > 75
