"""README's "On a cluster", line by line: its settings, its commands, and what each of them promises.

Only somebody's own things are exchanged: data set, bucket, endpoint, image, namespace and keys; and 8 GPUs for 2.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib

import pytest

from tests.docs.pages import ROOT, section, words_of
from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import wait_for
from tests.e2e.tspctl import DATA_PREFIX, SECRET, Tspctl, as_toml, model_in

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500, func_only=True)]

TEXT = section("On a cluster")
GPUS = "2"


class Walker:
    """A user who types README's lines."""

    def __init__(self, tspctl: Tspctl) -> None:
        self.tspctl, self.run_name = tspctl, ""
        # The walk makes it.
        tspctl.kubectl.run("delete", "secret", SECRET)
        kubeconfig = tspctl.folder / ".kube" / "config"
        kubeconfig.parent.mkdir()
        kubeconfig.symlink_to(tspctl.kubeconfig)
        bucket = tspctl.s3.bucket
        self.parts = {
            "s3://videos/thumos14": f"s3://{bucket}/{DATA_PREFIX}/demo",
            "s3://my-bucket/runs": f"s3://{bucket}/{tspctl.prefix}",
            "AWS_ACCESS_KEY_ID=...": f"AWS_ACCESS_KEY_ID={tspctl.s3.access_key}",
            "AWS_SECRET_ACCESS_KEY=...": f"AWS_SECRET_ACCESS_KEY={tspctl.s3.secret_key}",
            "https://s3.example": tspctl.s3.endpoint_url,
            "registry.example/team/tspctl:0.2.0": tspctl.image,
            "thumos14": "demo",
        }
        self.whole = {"video": str(tspctl.kubectl.namespace), "8": GPUS}

    def write_settings(self) -> None:
        """tspctl.toml as README shows it; pods that are small enough for this machine come on top."""
        (text,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
        found = tomllib.loads(text)
        found |= {key: self.own(value) for key, value in found.items() if isinstance(value, str)}
        assert set(found) == {"store", "endpoint_url", "image", "namespace", "chart_values"}
        assert found["chart_values"] == {"store.existingSecret": SECRET}
        values = {**self.tspctl.chart_values, **found.pop("chart_values")}
        fewer_clips = '[set]\n"clips.per_segment" = 2\n'
        (self.tspctl.folder / "tspctl.toml").write_text(as_toml(found, chart_values=values) + fewer_clips)

    def own(self, word: str) -> str:
        """A word with this user's own things in it."""
        for theirs, ours in self.parts.items():
            word = word.replace(theirs, ours)
        return {**self.whole, "RUN": self.run_name}.get(word, word)

    def type(self, line: list[str]) -> str:
        """Standard output of a line, which must succeed."""
        program, *words = map(self.own, line)
        if program == "tspctl":
            return self.tspctl.run(*words, timeout_sec=900)
        path = {"kubectl": self.tspctl.kubectl.program, "helm": self.tspctl.helm_program}[program]
        done = subprocess.run(
            [path, *words],
            cwd=self.tspctl.folder, env=self.tspctl.env(), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program} {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def test_every_line_of_the_walk_does_what_it_says(tspctl: Tspctl):
    walker = Walker(tspctl)
    walker.write_settings()
    secret, doctor, submit, logs, fetch, by_helm = words_of(TEXT)

    assert walker.type(secret) == f"secret/{SECRET} created\n"
    assert "permissions" in walker.type(doctor)
    walker.run_name = walker.type(submit).strip()
    assert tspctl.status(walker.run_name)["state"] == "succeeded", what_happened(tspctl.kubectl)
    assert f"[rank {int(GPUS) - 1}] " in walker.type(logs)
    checkpoint = tspctl.folder / walker.type(fetch).strip()
    assert model_in(checkpoint)

    # Without tspctl: README's values are the run's, the rest is what this cluster needs.
    os.symlink(ROOT / "charts", tspctl.folder / "charts")
    walker.type([*by_helm, "--namespace", "video", "-f", str(tspctl.site_values())])
    wait_for(
        lambda: tspctl.status("my-run")["state"] in ("running", "succeeded"),
        what="a running my-run", describe=lambda: what_happened(tspctl.kubectl),
    )  # fmt: skip
