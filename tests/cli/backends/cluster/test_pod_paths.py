"""Paths of this machine never reach a cluster."""

import pytest

from cli.backends.base import BackendOptions
from cli.backends.cluster.backend import ClusterBackend
from cli.options.settings import Settings
from cli.stores import Stores
from tsp.config.jobs import AnnotateJob, CheckJob, ExtractJob, ProbeJob, StandardizeJob
from tsp.config.recipes import load_dataset, resolve
from tsp.errors import ConfigError

OWN = """
name: mine
root: s3://bucket/mine
train: {csv: a.csv, videos: train}
valid: {csv: b.csv, videos: valid}
labels: {action-label: actions.json, temporal-region-label: ./regions.json}
gvf: "./{backbone}-{pool}.h5"
"""


@pytest.fixture
def submit(tspctl, cluster, home, fake_helm):
    """``tspctl submit`` of a data-set file to the small API server."""

    def run(text, *arguments, method="tac"):
        (home / "mine.yaml").write_text(text)
        place = ("--kubeconfig", cluster.where.kubeconfig, "--store", "s3://bucket/runs")
        return tspctl("submit", "--dataset", "mine.yaml", "--method", method, "--name", "r", *place, *arguments)

    return run


@pytest.mark.parametrize("arguments", [(), ("--dry-run",), ("--dry-run=server",)])
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("csv: a.csv", "csv: ./tables/a.csv", "train.csv"),
        ("videos: valid", "videos: ./valid", "valid.videos"),
        ("action-label: actions", "action-label: ./actions", "labels.action-label"),
        ("root: s3://bucket/mine", "root: .", "root"),
    ],
)
def test_what_lies_beside_the_data_set_file_is_refused_before_anything_is_sent(
    submit, api, fake_helm, home, old, new, named, arguments
):
    ended = submit(OWN.replace(old, new), *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert f"mine.yaml: {named} ({home}" in ended.err
    assert "is next to that file on this machine, where pods cannot read: copy" in ended.err
    assert (api.requests, fake_helm.calls) == ([], [])


def test_every_path_beside_the_file_is_named_at_once(submit, home):
    ended = submit(OWN, method="tsp")
    assert ended.code == 2
    for found in (f"gvf ({home}/r2plus1d_34-max.h5)", f"labels.temporal-region-label ({home}/regions.json)"):
        assert found in ended.err


def test_paths_that_the_run_does_not_read_may_lie_beside_the_file(submit, fake_helm):
    """TAC reads neither regions nor GVF; the run then gets as far as Helm."""
    assert "next to that file" not in submit(OWN).err
    assert fake_helm.calls


def test_a_root_given_with_the_command_takes_the_place_of_the_files_own(submit):
    assert "beside" not in submit(OWN.replace("root: s3://bucket/mine", "root: ."), "--data", "s3://bucket/x").err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--data", "videos"),
        ("--data", "~/videos"),
        ("--pretrained", "w.pth"),
        ("--resume", "./c.pth"),
        ("--set", "data.cache_dir=cache"),
    ],
)
def test_a_path_relative_to_a_folder_of_this_machine_is_refused(submit, api, fake_helm, option, value):
    ended = submit(OWN, option, value)
    assert ended.code == 2
    shown = f"{option} {value.replace('=', ' ')}"
    assert f"{shown} is relative to a folder of this machine, which pods cannot see" in ended.err
    assert (api.requests, fake_helm.calls) == ([], [])


CHECKED = resolve(load_dataset("demo"), "tac", name="c", store={"uri": "s3://b"}, root="videos")


@pytest.mark.parametrize(
    ("job", "option"),
    [
        (ExtractJob(checkpoint="best.pth", videos="/v", metadata="/m", out="/o"), "CHECKPOINT best.pth"),
        (ExtractJob(checkpoint="/c", videos="videos", metadata="/m", out="/o"), "--data videos"),
        (ExtractJob(checkpoint="/c", videos="s3://v", metadata="m.csv", out="/o"), "--metadata m.csv"),
        (ExtractJob(checkpoint="/c", videos="s3://v", metadata="/m", out="f.h5"), "--out f.h5"),
        (StandardizeJob(source="raw", dest="/d"), "SOURCE raw"),
        (AnnotateJob(annotations="a.json", metadata="/m", out="/o"), "ANNOTATIONS a.json"),
        (ProbeJob(videos="/v", out="m.csv"), "--out m.csv"),
        (CheckJob(config=CHECKED), "--data videos"),
    ],
)
def test_jobs_are_refused_likewise(cluster, api, fake_helm, job, option):
    backend = ClusterBackend(Settings(kubeconfig=cluster.where.kubeconfig), Stores())
    with pytest.raises(ConfigError, match=rf"{option} is relative to a folder of this machine"):
        backend.run_job("j", job, BackendOptions(), gpus=1)
    assert fake_helm.calls == []
