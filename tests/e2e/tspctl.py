"""``tspctl`` and ``helm`` as a user runs them: programs with settings, an environment and a folder of their own."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.e2e.kubectl import Kubectl
from tests.e2e.s3 import S3Server

SECRET = "s3-login"
LOG_HEAD = re.compile(r"^\S+Z rank \d+ ")
"""Time and rank, with which a rank starts its lines."""
DATA_PREFIX = "data"
SMALL_PODS: dict[str, Any] = {
    "resources.requests.cpu": "50m",
    "resources.requests.memory": "256Mi",
    "shm.sizeLimit": "512Mi",
    "gracePeriodSeconds": 60,
    "numThreads": 1,
    # The nodes only pretend to have GPUs.
    "requireGpu": False,
}
"""Chart values under which four ranks fit on a machine of two cores."""


def clean_environment(home: Path) -> dict[str, str]:
    """The environment without settings of whoever runs the tests; ``home`` holds files of settings, if any."""
    foreign = ("TSPCTL_", "AWS_", "HELM_", "KUBECONFIG", "XDG_")
    return {**{key: value for key, value in os.environ.items() if not key.startswith(foreign)}, "HOME": str(home)}


def model_in(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint, which holds nothing but tensors, numbers and the arguments of the run."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
    return found


def as_toml(settings: dict[str, Any], *, chart_values: dict[str, Any]) -> str:
    """A settings file; JSON's strings and numbers are TOML's too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    lines += ["[chart_values]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in chart_values.items())]
    return "\n".join(lines) + "\n"


@dataclass
class Tspctl:
    """A user with a namespace, a store and an image."""

    kubectl: Kubectl
    s3: S3Server
    image: str
    folder: Path
    helm_program: str
    chart: Path
    kubeconfig: Path
    """The user's own, with few rights; ``kubectl`` is an administrator's."""
    chart_values: dict[str, Any] = field(default_factory=lambda: dict(SMALL_PODS))

    def __post_init__(self) -> None:
        self.prefix = f"{self.kubectl.namespace}"
        self.make_secret(SECRET, self.s3.access_key, self.s3.secret_key)
        self.chart_values["store.existingSecret"] = SECRET
        (self.folder / "tspctl.toml").write_text(self._settings())

    def make_secret(self, name: str, access_key: str, secret_key: str) -> None:
        """Credentials of the store for the pods."""
        data = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def _settings(self) -> str:
        values = {
            "store": f"s3://{self.s3.bucket}/{self.prefix}",
            "data": f"s3://{self.s3.bucket}/{DATA_PREFIX}/{{dataset}}",
            "endpoint_url": self.s3.endpoint_url,
            "region": "us-east-1",
            "image": self.image,
            "namespace": self.kubectl.namespace,
            "kubeconfig": str(self.kubeconfig),
        }
        return as_toml(values, chart_values=self.chart_values)

    def env(self) -> dict[str, str]:
        """The user's environment: helm on PATH, a home of its own, the credentials of the store."""
        path = os.pathsep.join([str(Path(self.helm_program).parent), os.environ.get("PATH", "")])
        return {**clean_environment(self.folder), "PATH": path, **self.s3.env()}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``tspctl``; its output can be read while it runs."""
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("tspctl")), *arguments],
            cwd=self.folder, env=self.env(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def try_run(self, *arguments: str, timeout_sec: int = 300) -> subprocess.CompletedProcess[str]:
        """Run ``tspctl``, whatever comes of it."""
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=timeout_sec)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def run(self, *arguments: str, timeout_sec: int = 300) -> str:
        """Standard output of ``tspctl``; the test fails with all it said if it does not end with 0."""
        done = self.try_run(*arguments, timeout_sec=timeout_sec)
        said = f"tspctl {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        return done.stdout

    def status(self, run: str) -> dict[str, Any]:
        """``tspctl status -o json``."""
        answer: dict[str, Any] = json.loads(self.run("status", run, "-o", "json"))
        return answer

    def helm(self, *arguments: str, timeout_sec: int = 300) -> str:
        """Standard output of helm in the namespace; the test fails with all it said if helm does."""
        place = ["--kubeconfig", str(self.kubeconfig), "--namespace", str(self.kubectl.namespace)]
        done = subprocess.run(
            [self.helm_program, *arguments, *place],
            env=self.env(), capture_output=True, text=True, timeout=timeout_sec, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def site_values(self, **more: Any) -> Path:
        """A values file with what every release here needs and a user would keep: image, credentials, small pods."""
        repository, _, tag = self.image.rpartition(":")
        values: dict[str, Any] = {
            "image": {"repository": repository, "tag": tag},
            "store": {"endpointUrl": self.s3.endpoint_url, "existingSecret": SECRET, "region": "us-east-1"},
            "data": {"uri": f"s3://{self.s3.bucket}/{DATA_PREFIX}/demo"},
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
            "shm": {"sizeLimit": "512Mi"},
            "gracePeriodSeconds": 60,
            "numThreads": 1,
            "requireGpu": False,
            **more,
        }
        path = self.folder / "site.yaml"
        path.write_text(json.dumps(values))  # YAML reads JSON
        return path

    # What a run has left in the store, read by a client that is not the product's

    def keys(self, run: str) -> set[str]:
        """Keys of a run."""
        return self.s3.keys(f"{self.prefix}/{run}/")

    def stored(self, run: str, key: str) -> Any:
        """A JSON object of a run."""
        return json.loads(self.s3.read(f"{self.prefix}/{run}/{key}"))

    def epochs_in_results(self, run: str) -> list[int]:
        """Epoch of every line of ``results.txt``, in order."""
        text = self.s3.read(f"{self.prefix}/{run}/results.txt").decode()
        return [int(line.split("Valid Epoch ")[1].split(":")[0]) for line in text.splitlines()]

    def stored_log(self, run: str, ranks: Iterable[int], attempt: int = 1) -> list[str]:
        """Lines of the ranks of an attempt as the store has them, each as ``tspctl logs`` shows it."""
        lines = []
        for rank in ranks:
            text = self.s3.read(f"{self.prefix}/{run}/logs/attempt-{attempt}/rank-{rank}.log").decode()
            lines += [f"[rank {rank}] {LOG_HEAD.sub('', line)}" for line in text.splitlines()]
        return lines
