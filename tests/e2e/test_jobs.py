"""What is done beside training, as Indexed Jobs: features, GVF and standardising from S3 to S3, one pod a shard."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.e2e.conftest import a_namespace, what_happened
from tests.e2e.kubectl import Kubectl, Object, wait_for
from tests.e2e.places import Cluster
from tests.e2e.tspctl import Tspctl
from tests.videos import FPS_24, Made, write_video
from tsp.data.tables import read_metadata
from tsp.data.video.inspect import inspect_video
from tsp.extract.shards import deal
from tsp.model.heads import HeadSpec, TspModel

pytestmark = pytest.mark.e2e

RAW = {
    "a.avi": Made(num_frames=90, codec="mpeg4"),
    "b.mkv": Made(num_frames=75, fps=FPS_24, audio=True),
    "more/c.mp4": Made(num_frames=60, width=160, height=120),
    "more/d.mov": Made(num_frames=48, rotation=90),
}
LAST_LINE = "** Valid Epoch 0:  <action-label> Accuracy 50.000 Loss 1.000; Total Loss 1.000 Avg Accuracy 50.000\n"
JOB_NAME = "batch.kubernetes.io/job-name"


class Shop:
    """A user whose store holds a run, a table of the demo's videos, and raw videos."""

    def __init__(self, tspctl: Tspctl) -> None:
        self.tspctl, self.s3 = tspctl, tspctl.s3
        self.uri = f"s3://{self.s3.bucket}/{tspctl.prefix}"
        self.data = f"s3://{self.s3.bucket}/data/demo"
        self._put_run()
        # In S3 on this machine: the tools beside the cluster's read and write there as well.
        tspctl.run("data", "probe", self.data, "--out", f"{self.uri}/videos.csv", "-o", "json")

    def _put_run(self) -> None:
        """A run as the original scripts leave it."""
        torch.manual_seed(7)
        model = TspModel("tiny", [HeadSpec(label_column="action-label", num_classes=3)])
        path = self.tspctl.folder / "epoch_0.pth"
        torch.save({"model": model.state_dict(), "epoch": 0}, path)
        self.put("tac/epoch_0.pth", path.read_bytes())
        self.put("tac/results.txt", LAST_LINE.encode())

    def put(self, key: str, content: bytes) -> None:
        """Into the user's prefix."""
        self.s3.client().put_object(Bucket=self.s3.bucket, Key=f"{self.tspctl.prefix}/{key}", Body=content)

    def put_raw(self, names: dict[str, Made], folder: str) -> None:
        """Raw videos below a prefix."""
        for name, made in names.items():
            path = self.tspctl.folder / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.put(f"{folder}/{name}", write_video(path, made).read_bytes())

    def read(self, key: str) -> Path:
        """An object of the user's prefix, as a file."""
        path = self.tspctl.folder / "read" / key.replace("/", "_")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.s3.read(f"{self.tspctl.prefix}/{key}"))
        return path

    def keys(self, prefix: str) -> set[str]:
        """Keys below a prefix of the user's."""
        return self.s3.keys(f"{self.tspctl.prefix}/{prefix}")

    def modified(self, prefix: str) -> dict[str, object]:
        """When the objects below a prefix were written last."""
        full = f"{self.tspctl.prefix}/{prefix}"
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=self.s3.bucket, Prefix=full)
        found = (item for page in pages for item in page.get("Contents", []))
        return {item["Key"].removeprefix(full): item["LastModified"] for item in found}

    def features(self, *arguments: str, name: str, out: str) -> str:
        """Submit ``extract`` or ``gvf`` over the demo's videos; returns the name that was printed."""
        given = ("--data", self.data, "--metadata", f"{self.uri}/videos.csv", "--out", f"{self.uri}/{out}")
        return self.tspctl.run(*arguments, *given, "--name", name).strip()

    def wait(self, name: str) -> int:
        """Exit code of ``tspctl wait``; what happened is printed if it is not 0."""
        done = self.tspctl.try_run("wait", name, "--timeout", "500", timeout_sec=520)
        if done.returncode:
            print(done.stderr, what_happened(self.tspctl.kubectl))
        return done.returncode

    def pods(self, name: str) -> list[Object]:
        """Pods of a job."""
        return self.tspctl.kubectl.items("pods", "-l", f"{JOB_NAME}={name}")


def arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


@pytest.fixture(scope="module")
def shop(
    cluster: Cluster, user: Callable[[Kubectl, Path], Tspctl], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with a_namespace(cluster, "jobs") as kubectl:
        yield Shop(user(kubectl, tmp_path_factory.mktemp("user")))


@pytest.fixture(scope="module")
def gvf(shop: Shop) -> str:
    """A GVF job of two GPUs that has ended; its name."""
    assert shop.features("gvf", "tac", "--gpus", "2", name="max-gvf", out="own/max.h5") == "max-gvf"
    assert shop.wait("max-gvf") == 0
    return "max-gvf"


def test_global_features_of_a_run_are_made_on_the_cluster_and_equal_those_made_here(shop: Shop, gvf: str):
    ours = arrays(shop.read("own/max.h5"))
    shop.tspctl.run(
        "gvf", "tac", "--backend", "local", "--data", shop.data, "--metadata", f"{shop.uri}/videos.csv",
        "--out", "local.h5", "-o", "json",
    )  # fmt: skip
    here = arrays(shop.tspctl.folder / "local.h5")
    assert len(ours) == 18
    assert ours.keys() == here.keys()
    for name, vector in ours.items():
        assert (vector.shape, vector.dtype) == ((512,), np.float32)
        np.testing.assert_allclose(vector, here[name], atol=1e-5)
    assert shop.keys("own/") == {"max.h5", "max.h5.json"}


def test_every_shard_held_a_gpu_and_no_right(shop: Shop, gvf: str):
    containers = [pod["spec"]["containers"][0] for pod in shop.pods(gvf)]
    assert [container["resources"]["limits"]["nvidia.com/gpu"] for container in containers] == ["1", "1"]
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in shop.pods(gvf))


def test_a_job_is_listed_and_shown_as_a_training_run_is(shop: Shop, gvf: str):
    (row,) = [row for row in json.loads(shop.tspctl.run("list", "-o", "json")) if row["name"] == gvf]
    assert (row["kind"], row["state"], row["gpus"]) == ("gvf", "succeeded", 2)
    status = shop.tspctl.status(gvf)
    assert (status["kind"], status["state"], status["gpus"]) == ("gvf", "succeeded", 2)
    assert [(rank["rank"], rank["state"]) for rank in status["ranks"]] == [(0, "succeeded"), (1, "succeeded")]
    shown = shop.tspctl.run("status", gvf)
    assert re.search(r"^Kind +gvf$", shown, re.MULTILINE), shown


def test_the_logs_of_a_job_show_every_shard(shop: Shop, gvf: str):
    lines = shop.tspctl.run("logs", gvf).splitlines()
    dealt = [re.match(r"\[rank (\d)\] INFO (\d+) videos, 0 of them already done", line) for line in lines]
    assert sorted((found[1], int(found[2])) for found in dealt if found) == [("0", 9), ("1", 9)]
    assert sum("18 videos merged into" in line for line in lines) == 1
    followed = shop.tspctl.try_run("logs", "-f", gvf)
    assert (followed.returncode, sorted(followed.stdout.splitlines())) == (0, sorted(lines))


def test_features_of_a_checkpoint_in_s3_are_those_of_every_clip(shop: Shop):
    shop.features("extract", f"{shop.uri}/tac/epoch_0.pth", "--shards", "2", name="features", out="features.h5")
    assert shop.wait("features") == 0
    ours = arrays(shop.read("features.h5"))
    shop.tspctl.run(
        "extract", str(shop.tspctl.folder / "epoch_0.pth"), "--backend", "local", "--data", shop.data,
        "--metadata", f"{shop.uri}/videos.csv", "--out", "local-features.h5", "-o", "json",
    )  # fmt: skip
    here = arrays(shop.tspctl.folder / "local-features.h5")
    assert {name: array.shape for name, array in ours.items()} == {name: array.shape for name, array in here.items()}
    for name, array in ours.items():
        assert (array.shape[1], array.dtype) == (512, np.float32)
        np.testing.assert_allclose(array, here[name], atol=1e-5)


def test_a_lost_pod_costs_the_videos_it_was_at_and_no_other(shop: Shop):
    name, parts = "interrupted", "slid.h5.parts/done/"
    table = read_metadata(shop.read("videos.csv"))
    mine = {video.name for video in deal(table, 2)[0]}
    shop.features("extract", "tac", "--stride", "1", "--batch", "1", "--shards", "2", name=name, out="slid.h5")
    done = wait_for(
        lambda: {key.rpartition("/")[2].removesuffix(".npy") for key in shop.keys(parts)} & mine,
        what="part of the first shard",
        describe=lambda: what_happened(shop.tspctl.kubectl),
    )
    (lost,) = [pod["metadata"]["name"] for pod in shop.pods(name) if "-0-" in pod["metadata"]["name"]]
    shop.tspctl.kubectl.run("delete", "pod", lost)
    assert done < mine, "the job was too quick to be disturbed"
    assert shop.wait(name) == 0
    assert len(arrays(shop.read("slid.h5"))) == len(table)
    (again,) = [pod["metadata"]["name"] for pod in shop.pods(name) if "-0-" in pod["metadata"]["name"]]
    assert again != lost
    said = shop.tspctl.kubectl.run("logs", again)
    found = re.search(r"INFO (\d+) videos, (\d+) of them already done", said)
    assert found, said
    assert (int(found[1]), int(found[2]) >= len(done)) == (len(mine), True), said
    # what it extracted itself are the clips of the rest
    extracted = json.loads(said[said.index('{"rows"') :].splitlines()[0])["clips_extracted"]
    every = sum(len(array) for video, array in arrays(shop.read("slid.h5")).items() if video in mine)
    assert 0 < extracted < every


def test_a_checkpoint_scores_on_the_cluster_what_it_scores_here(shop: Shop):
    given = (
        "evaluate", f"{shop.uri}/tac/epoch_0.pth", "--dataset", "demo", "--method", "tac", "--backbone", "tiny",
        "--data", shop.data,
    )  # fmt: skip
    name = shop.tspctl.run(
        *given, "--gpus", "2", "--name", "figures", "--out", f"{shop.uri}/figures/figures.json"
    ).strip()
    assert name == "figures"
    assert shop.wait(name) == 0
    there = json.loads(shop.read("figures/figures.json").read_text())
    shop.tspctl.run(*given, "--backend", "local", "--out", "here.json")
    here = json.loads((shop.tspctl.folder / "here.json").read_text())
    assert len(shop.pods(name)) == 2
    assert (there["results_line"], there["classes"]) == (here["results_line"], here["classes"])
    out = ("--out", f"{shop.uri}/figures/figures.json")
    shown = json.loads(shop.tspctl.run(*given[:2], "--show", *out, "-o", "json"))
    assert shown["results_line"] == here["results_line"]


def test_a_job_that_is_cancelled_ends_soon_and_says_so(shop: Shop):
    name = "called-off"
    shop.features("extract", "tac", "--stride", "1", "--batch", "1", "--shards", "2", name=name, out="never.h5")
    wait_for(
        lambda: shop.tspctl.status(name)["state"] == "running",
        what="running pod",
        describe=lambda: what_happened(shop.tspctl.kubectl),
    )
    shop.tspctl.run("cancel", name)
    assert shop.tspctl.try_run("wait", name).returncode == 103
    assert shop.tspctl.status(name)["state"] == "cancelled"
    assert shop.pods(name) == []
    assert "never.h5" not in shop.keys("")


def test_raw_videos_are_standardised_from_s3_to_s3(shop: Shop):
    shop.put_raw(RAW, "raw")
    shop.tspctl.run(
        "data", "standardize", f"{shop.uri}/raw", f"{shop.uri}/standard", "--shards", "2", "--name", "standard"
    )
    assert shop.wait("standard") == 0
    assert shop.keys("standard/") == {"a.mp4", "b.mp4", "more/c.mp4", "more/d.mp4"}
    for key in shop.keys("standard/"):
        report = inspect_video(shop.read(f"standard/{key}"), decode_all=True)
        assert (report.codec, report.fps, report.constant_rate, report.has_audio, report.turn) == (
            "h264", 30.0, True, False, "upright",
        )  # fmt: skip
        assert report.faults == ()
    assert all("limits" not in pod["spec"]["containers"][0]["resources"] for pod in shop.pods("standard"))
    rows = [row for line in shop.tspctl.run("logs", "standard").splitlines() for row in _answered(line)]
    assert sorted(row["video"] for row in rows) == sorted(RAW)


def test_standardising_goes_on_where_its_pod_was_lost(shop: Shop):
    name = "standard-lost"
    shop.put_raw({f"{n}.mkv": Made(num_frames=500, width=320, height=240, noise=12) for n in range(8)}, "many")
    shop.tspctl.run("data", "standardize", f"{shop.uri}/many", f"{shop.uri}/done", "--workers", "1", "--name", name)
    wait_for(
        lambda: shop.keys("done/"),
        what="standardised video",
        describe=lambda: what_happened(shop.tspctl.kubectl),
    )
    (lost,) = [pod["metadata"]["name"] for pod in shop.pods(name)]
    shop.tspctl.kubectl.run("delete", "pod", lost)
    before = shop.modified("done/")
    assert len(before) < 8, "the job was too quick to be disturbed"
    assert shop.wait(name) == 0
    after = shop.modified("done/")
    assert set(after) == {f"{n}.mp4" for n in range(8)}
    assert {key: after[key] for key in before} == before


def test_a_broken_input_fails_the_job_by_name_once_all_others_are_done(shop: Shop):
    shop.put_raw({f"{n}.mkv": Made(num_frames=60 + n) for n in range(3)}, "mixed")
    shop.put("mixed/broken.avi", b"no video at all" * 100_000)  # the largest: it is the first of its shard
    shop.tspctl.run("data", "standardize", f"{shop.uri}/mixed", f"{shop.uri}/whole", "--shards", "2", "--name", "mixed")
    done = shop.tspctl.try_run("wait", "mixed", "--timeout", "500", timeout_sec=520)
    assert done.returncode == 100, what_happened(shop.tspctl.kubectl)
    assert shop.keys("whole/") == {"0.mp4", "1.mp4", "2.mp4"}
    status = shop.tspctl.status("mixed")
    assert (status["state"], status["exit_code"]) == ("failed", 3)
    broken = [row for line in shop.tspctl.run("logs", "mixed").splitlines() for row in _answered(line)]
    assert [row["video"] for row in broken if row["status"] == "broken"] == ["broken.avi"]


def test_what_pods_cannot_read_is_refused_before_anything_is_made(shop: Shop):
    refused = shop.tspctl.try_run(
        "extract", "tac", "--data", shop.data, "--metadata", "videos.csv", "--name", "relative"
    )
    assert refused.returncode == 2
    assert "--metadata videos.csv" in refused.stderr
    assert shop.tspctl.kubectl.items("jobs", "-l", "app.kubernetes.io/instance=relative") == []


def test_the_table_of_the_videos_is_probed_from_s3(shop: Shop):
    rows = list(csv.DictReader(shop.read("videos.csv").read_text().splitlines()))
    demo = {key for key in shop.s3.keys("data/demo/") if key.endswith(".mp4")}
    assert {row["filename"] for row in rows} == demo
    assert {row["fps"] for row in rows} == {"30.0"}


def _answered(line: str) -> list[Object]:
    """Rows of the answer that a line of a log is, if it is one."""
    text = line.partition("] ")[2]
    return json.loads(text)["rows"] if text.startswith('{"rows"') else []
