"""Where the end-to-end tests run: the cluster of the current KUBECONFIG, or one that is brought up here.

Settings of the environment, all optional:

- ``TSP_E2E=required``: a missing cluster fails the tests instead of skipping them (CI).
- ``TSP_E2E_KEEP=1``: leave our own cluster running, and use it if it runs (while writing tests).
- ``TSP_E2E_S3_HOST``: address of this machine that the pods of another cluster reach (for kind: docker's gateway).
- ``TSP_E2E_IMAGE``, ``TSP_E2E_BUSYBOX``: images that another cluster's nodes have or can pull.
- ``TSP_E2E_FAKE_GPUS=1``: another cluster's node may be given GPUs that it does not have (always so with kind).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.kubectl import Kubectl

BRING_UP = Path(__file__).with_name("cluster")
CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
CACHE = Path(os.environ.get("TSPCTL_CACHE") or CACHE_HOME / "tspctl")
START_TIMEOUT_SEC = 300
BUILD_TIMEOUT_SEC = 3000
LAST_LINES = 30
"""Of a script that failed."""


@dataclass(frozen=True)
class Cluster:
    """A cluster with the training operator, and what the tests need to know of it."""

    kubectl: Kubectl
    ours: bool
    """Brought up here: its parts may be restarted."""
    fake_gpus: bool
    """Whether its node may be given GPUs that it does not have."""
    node: str
    """A node that runs pods."""
    s3_host: str
    """Address of this machine that pods reach."""
    busybox: str
    """A small image with a shell and nslookup, on the node."""

    def control(self, *arguments: str, timeout_sec: int = START_TIMEOUT_SEC) -> str:
        """Output of ``cluster.sh``, for a cluster of ours."""
        return run_script("cluster.sh", *arguments, timeout_sec=timeout_sec)


class BringUpError(Exception):
    """A script of the bring-up failed; the message ends with what it said last."""


def run_script(name: str | Path, *arguments: str, timeout_sec: float) -> str:
    """Standard output of a script, by default of the bring-up; its standard error is shown as it comes.

    Raises: BringUpError.
    """
    last: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        [str(BRING_UP / name), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    overtime = threading.Event()

    def end() -> None:
        overtime.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(timeout_sec, end)
    timer.start()
    try:
        with process, ThreadPoolExecutor(1) as showing:
            assert process.stdout is not None
            assert process.stderr is not None
            showing.submit(_show, process.stderr, last)
            answer = process.stdout.read()
    except BaseException:
        end()
        raise
    finally:
        timer.cancel()
    if process.returncode == 0:
        return answer
    how = f"took longer than {timeout_sec:g} s" if overtime.is_set() else f"ended with exit status {process.returncode}"
    said = "".join(last).strip() or "nothing"
    raise BringUpError(f"{Path(name).name} {' '.join(arguments)} {how}; its last words:\n{said}")


def _show(stream: IO[str], last: deque[str]) -> None:
    for line in stream:
        last.append(line)
        sys.stderr.write(line)


@contextlib.contextmanager
def ending_the_session() -> Iterator[None]:
    """What the tests stand on has failed: said once, instead of in each of them."""
    try:
        yield
    except BringUpError as error:
        pytest.exit(f"the end-to-end tests have nothing to run on: {error}", returncode=1)


@contextlib.contextmanager
def a_cluster() -> Iterator[Cluster]:
    """The current KUBECONFIG's cluster if it answers, else one of our own; skips (or fails) where there is neither."""
    found, problem = current_cluster()
    if found is not None:
        yield found
        return
    reason = why_no_cluster_here()
    if reason is None:
        with our_cluster() as ours:
            yield ours
        return
    message = f"no cluster: {problem}; and none can be brought up here: {reason}"
    if os.environ.get("TSP_E2E") == "required":
        pytest.fail(message)
    pytest.skip(message)


def current_cluster() -> tuple[Cluster | None, str]:
    """The cluster of KUBECONFIG or ~/.kube/config, or None and why it cannot be used."""
    kubeconfig = Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
    program = shutil.which("kubectl")
    if not kubeconfig.is_file():
        return None, f"there is no {kubeconfig}"
    if program is None:
        return None, "there is no kubectl"
    kubectl = Kubectl(kubeconfig, program)
    answer = kubectl.try_run("get", "--raw", "/readyz", "--request-timeout=10s")
    if answer.returncode != 0:
        return None, f"the cluster of {kubeconfig} does not answer: {answer.stderr.strip()}"
    if kubectl.try_run("get", "crd", "pytorchjobs.kubeflow.org").returncode != 0:
        pytest.fail(f"the cluster of {kubeconfig} has no training operator (v1.9): install it, or unset KUBECONFIG")
    ready = [node for node in kubectl.items("nodes") if not node["spec"].get("unschedulable")]
    assert ready, f"the cluster of {kubeconfig} has no node that takes pods"
    context = kubectl.run("config", "current-context").strip()
    return Cluster(
        kubectl=kubectl,
        ours=False,
        fake_gpus=context.startswith("kind-") or os.environ.get("TSP_E2E_FAKE_GPUS") == "1",
        node=ready[-1]["metadata"]["name"],
        s3_host=os.environ.get("TSP_E2E_S3_HOST", "172.18.0.1"),
        busybox=os.environ.get("TSP_E2E_BUSYBOX", "busybox:1.36"),
    ), ""


def why_no_cluster_here() -> str | None:
    """Why this machine cannot run a cluster of ours; None if it should."""
    if platform.system() != "Linux":
        return "this is not Linux"
    if os.geteuid() != 0:
        return "this needs root (network and mount namespaces)"
    if shutil.which("go") is None:
        return "there is no Go to build Kubernetes with"
    if shutil.which("apt-get") is None:
        return "there is no apt-get to install containerd, runc and etcd with"
    probe = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else f"namespaces are refused: {probe.stderr.decode().strip()}"


@contextlib.contextmanager
def our_cluster() -> Iterator[Cluster]:
    """Build what is missing, start, and stop at the end, also when the tests are killed."""
    keep = os.environ.get("TSP_E2E_KEEP") == "1"
    kubectl = Kubectl(CACHE / "cluster" / "admin.kubeconfig", str(CACHE / "bin" / "kubectl"))
    runs = keep and kubectl.kubeconfig.is_file() and kubectl.try_run("get", "--raw", "/readyz").returncode == 0
    if not runs:
        run_script("build.sh", timeout_sec=BUILD_TIMEOUT_SEC)
        run_script("cluster.sh", "start", *([] if keep else [str(os.getpid())]), timeout_sec=START_TIMEOUT_SEC)
    try:
        facts = json.loads(run_script("cluster.sh", "facts", timeout_sec=30))
        yield Cluster(kubectl=kubectl, ours=True, fake_gpus=True, **facts)
    finally:
        if not keep:
            run_script("cluster.sh", "stop", timeout_sec=START_TIMEOUT_SEC)
