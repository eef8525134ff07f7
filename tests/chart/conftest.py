"""The chart, rendered by a real Helm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "tsp"
APP_VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
ENOUGH = {"dataset": "thumos14", "method": "tac", "gpus": 8, "store": {"uri": "s3://bucket/runs"}}


def enough(values: dict[str, Any]) -> dict[str, Any]:
    """What a release needs beside these values: an auxiliary job nothing of training."""
    is_training = (values.get("job") or {}).get("kind", "train") == "train"
    return ENOUGH if is_training else {"store": ENOUGH["store"]}


class HelmError(Exception):
    """Helm refused; the message is what it wrote to stderr."""


@dataclass(frozen=True)
class Rendered:
    """Objects of a release; ``rendered["PyTorchJob"]`` is the one of that kind that is no hook."""

    objects: list[dict[str, Any]]

    def __getitem__(self, kind: str) -> dict[str, Any]:
        (found,) = [item for item in self.objects if item["kind"] == kind and not self._is_hook(item)]
        return found

    def __contains__(self, kind: str) -> bool:
        return any(item["kind"] == kind and not self._is_hook(item) for item in self.objects)

    @property
    def test_hook(self) -> dict[str, Any]:
        (found,) = [item for item in self.objects if self._is_hook(item)]
        return found

    @property
    def templates(self) -> list[dict[str, Any]]:
        """Every pod template of the release."""
        found = []
        for item in self.objects:
            if item["kind"] == "PyTorchJob":
                found += [spec["template"] for spec in item["spec"]["pytorchReplicaSpecs"].values()]
            elif item["kind"] == "TrainingRuntime":
                found += [job["template"]["spec"]["template"] for job in replicated_jobs(item)]
            elif item["kind"] == "Job":
                found.append(item["spec"]["template"])
        return found

    @property
    def pod(self) -> dict[str, Any]:
        """Spec of the master, of a TrainJob's or of a job's pods."""
        if "TrainingRuntime" in self:
            (job,) = replicated_jobs(self["TrainingRuntime"])
            return job["template"]["spec"]["template"]["spec"]
        if "PyTorchJob" in self:
            return self["PyTorchJob"]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
        return self["Job"]["spec"]["template"]["spec"]

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.pod["containers"]
        return container

    @property
    def config(self) -> str:
        return self["ConfigMap"]["data"]["config.json"]

    @staticmethod
    def _is_hook(item: dict[str, Any]) -> bool:
        return "helm.sh/hook" in item["metadata"].get("annotations", {})


def replicated_jobs(runtime: dict[str, Any]) -> list[dict[str, Any]]:
    """Jobs that a TrainingRuntime describes."""
    return runtime["spec"]["template"]["spec"]["replicatedJobs"]


def go_tool(name: str) -> str:
    """Path of a program that scripts/go_tool.sh builds; skips the test where there is none."""
    command = [ROOT / "scripts" / "go_tool.sh", name, "--no-build"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return found.stdout.strip()


@pytest.fixture(scope="session")
def helm() -> str:
    """Path of a real Helm; scripts/go_tool.sh helm builds one where there is none."""
    return go_tool("helm")


@pytest.fixture(scope="session")
def render(helm: str) -> Callable[..., Rendered]:
    """``render(gpus=2, store={...})``: the values that are enough, and these over them.

    ``name`` is the release; ``bare=True`` leaves out the values that are enough; ``serves`` are kinds that the cluster
    has. Raises HelmError.
    """

    def run(*, name: str = "my-run", bare: bool = False, serves: tuple[str, ...] = (), **values: Any) -> Rendered:
        merged = values if bare else {**enough(values), **values}
        command = [helm, "template", name, str(CHART), "--namespace", "video", "-f", "-"]
        command += [f"--api-versions={kind}" for kind in serves]
        done = subprocess.run(command, input=json.dumps(merged), capture_output=True, text=True, check=False)
        if done.returncode:
            raise HelmError(done.stderr)
        found = [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]
        return Rendered([one for item in found for one in (item["items"] if item["kind"] == "List" else [item])])

    return run
