"""Images with digests: a registry on the node, and a tag that comes to mean another image."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import what_happened
from tests.e2e.kubectl import wait_for
from tests.e2e.places import BUILD_TIMEOUT_SEC, Cluster, ending_the_session, run_script
from tests.e2e.tspctl import Tspctl

pytestmark = [pytest.mark.e2e, pytest.mark.e2e_all]

FROM_NODE = "127.0.0.1:5000/tsp"
"""Where the node's container runtime takes plain http for granted."""
RUN = ("--dataset", "demo", "--method", "tac", "--epochs", "1", "--job-api", "pytorchjob",
       "--chart-value", "image.pullPolicy=Always")  # fmt: skip


class Registry:
    """Small images whose ``python`` does nothing but stay; they are pushed under one name."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        run_script("build.sh", "registry", timeout_sec=BUILD_TIMEOUT_SEC)
        cluster.control("restart", "registry")
        self._address = f"{cluster.kubectl.get('node', cluster.node)['status']['addresses'][0]['address']}:5000/tsp"

    def push(self, tag: str, content: str) -> str:
        """Have the tag mean an image with that content. Returns: the digest that the registry gave."""
        program = f"#!/bin/sh\n# {content}\ntrap 'exit 143' TERM\nsleep 3600 & wait\n"
        (self._folder / "python").write_text(program)
        (self._folder / "python").chmod(0o755)
        (self._folder / "Dockerfile").write_text(f"FROM {self._cluster.busybox}\nCOPY python /bin/python\n")
        image, digest = f"localhost/registry-test:{content}", self._folder / "digest"
        self._buildah("bud", "--isolation", "chroot", "-t", image, str(self._folder))
        push = ("push", "--tls-verify=false", f"--digestfile={digest}", image, f"docker://{self._address}:{tag}")
        self._buildah(*push)
        self._buildah("rmi", image)
        return digest.read_text().strip()

    @staticmethod
    def _buildah(*arguments: str) -> None:
        done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def registry(cluster: Cluster, tmp_path: Path) -> Registry:
    if not cluster.ours:
        pytest.skip("only a cluster of ours has a registry")
    with ending_the_session():
        return Registry(cluster, tmp_path)


def pod_shows(tspctl: Tspctl, run: str, image: str) -> None:
    """Wait until a pod of the run runs that image, by the kubelet."""
    label = f"training.kubeflow.org/job-name={run}"
    wait_for(
        lambda: any(
            status["imageID"] == image and "running" in status["state"]
            for pod in tspctl.kubectl.items("pods", "-l", label)
            for status in pod["status"].get("containerStatuses") or []
        ),
        what=f"pod of {image}", describe=lambda: what_happened(tspctl.kubectl),
    )  # fmt: skip


def test_what_a_tag_meant_is_recorded_and_that_it_means_another_image_is_said(registry: Registry, tspctl: Tspctl):
    first = f"{FROM_NODE}@{registry.push('v1', 'first')}"
    tspctl.run("submit", *RUN, "--image", f"{FROM_NODE}:v1", "--name", "tagged")
    plan = json.loads(tspctl.run("submit", *RUN, "--image", f"{FROM_NODE}:v1", "--name", "tagged", "--dry-run",
                                 "-o", "json"))  # fmt: skip
    about = {"config": plan["config"], "machine": {"image": f"{FROM_NODE}:v1"}}
    run_json = json.dumps(about).encode()  # as the first attempt would, if the image held more than a shell
    tspctl.s3.client().put_object(Bucket=tspctl.s3.bucket, Key=f"{tspctl.prefix}/tagged/run.json", Body=run_json)
    pod_shows(tspctl, "tagged", first)

    assert tspctl.status("tagged")["images"] == [first]
    assert tspctl.stored("tagged", "images.json") == [first]
    like = ("submit", "--like", "tagged", "--name", "again", "--dry-run", "--chart-value", "image.pullPolicy=Always")
    same = tspctl.try_run(*like, "--image", first)
    assert (same.returncode, "image" in same.stderr) == (0, False), same.stderr
    by_tag = tspctl.try_run(*like, "--image", f"{FROM_NODE}:v1")
    assert f"the pods of tagged ran {first}; to use the same image, give --image {first}" in by_tag.stderr

    second = f"{FROM_NODE}@{registry.push('v1', 'second')}"
    assert second != first
    tspctl.run("suspend", "tagged")
    tspctl.run("resume", "tagged")
    pod_shows(tspctl, "tagged", second)
    shown = tspctl.run("status", "tagged")
    assert re.search(rf"(?m)^Image +{first}, then {second}$", shown), shown
    assert tspctl.stored("tagged", "images.json") == [first, second]
    tspctl.run("report", "tagged", "--out", "report.html")
    report = (tspctl.folder / "report.html").read_text()
    assert first in report
    assert second in report
    tspctl.run("cancel", "tagged")
