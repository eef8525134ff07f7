"""From raw videos to features: every line of the documented walk, as it stands, with the program as users call it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

Tspctl = Callable[..., str]
README = Path(__file__).resolve().parents[2] / "README.md"
QUICK = """
[set]
"data.workers" = 0
"clips.per_segment" = 4
"""
GUESSING_PERCENT = 42


def lines_of_the_walk() -> list[list[str]]:
    section = README.read_text().split("## From raw videos to features")[1].split("\n## ")[0]
    (block,) = re.findall(r"```console\n(.*?)```", section, flags=re.DOTALL)
    return [shlex.split(line.removeprefix("$ ")) for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_walk_leads_from_raw_videos_to_features_of_a_model_that_has_learnt(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TSPCTL_", "XDG_"))}
    environment["HOME"] = str(tmp_path / "home")
    (tmp_path / "tspctl.toml").write_text(QUICK)
    program = str(Path(sys.executable).with_name("tspctl"))

    def call(*words: str) -> str:
        done = subprocess.run([program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"tspctl {' '.join(words)}\n{done.stderr[-3000:]}"
        return done.stdout

    export, *steps = lines_of_the_walk()
    assert export == ["export", "TSPCTL_BACKEND=local"]
    environment["TSPCTL_BACKEND"] = "local"
    for program_name, *words in steps:
        assert program_name == "tspctl"
        call(*words)

    epochs = json.loads(call("results", "tsp", "-o", "json"))["epochs"]
    best = max(epoch["avg_accuracy_percent"] for epoch in epochs)
    print(f"best epoch: {best} %")
    assert best > 2 * GUESSING_PERCENT
    with h5py.File(tmp_path / "data" / "tiny-max_gvf.h5") as gvf, h5py.File(tmp_path / "features.h5") as features:
        assert len(gvf) == len(features) == 36
        for name in features:
            assert (gvf[name].shape, features[name].shape[1], features[name].dtype) == ((512,), 512, np.float32)
