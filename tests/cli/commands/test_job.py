"""Commands for jobs beside training: what they send, and how the answer is shown."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from cli import main
from tests.cli.conftest import Tspctl
from tsp.config.codec import to_dict
from tsp.config.job import SharedJob
from tsp.config.jobs import JOBS, job_from_dict
from tsp.config.recipes import load_dataset, resolve
from tsp.config.run import RunConfig
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore

Plan = Callable[..., None]
EXTRACT = ("extract", "model.pth", "--data", "videos", "--metadata", "m.csv", "--out", "f.h5")

COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "standardize": (
        ("data", "standardize", "raw", "videos", "--training-copy", "--workers", "2", "--fps", "25"),
        {"source": "raw", "dest": "videos", "training_copy": "mjpeg", "workers": 2, "fps": 25.0, "overwrite": False},
    ),
    "probe": (("data", "probe", "videos", "--out", "m.csv"), {"videos": "videos", "out": "m.csv", "workers": None}),
    "annotate": (
        ("data", "annotate", "a.json", "--metadata", "m.csv", "--out", "t.csv", "--subset", "training"),
        {"annotations": "a.json", "metadata": "m.csv", "out": "t.csv", "subset": "training", "format": "auto"},
    ),
    "demo": (("data", "demo", "demo", "--valid-videos", "3"), {"dest": "demo", "num_valid_videos": 3}),
    "extract": (EXTRACT, {"checkpoint": "model.pth", "videos": "videos", "stride_frames": 16, "shard": None}),
    "gvf": (
        ("gvf", *EXTRACT[1:], "--pool", "avg", "--stride", "1"),
        {"pool": "avg", "stride_frames": 1, "out": "f.h5", "metadata": "m.csv"},
    ),
    "features": (
        ("features", "convert", "in.h5", "out", "--prefix", "v_", "--resize", "100"),
        {"source": "in.h5", "dest": "out", "prefix": "v_", "resize": 100, "format": None},
    ),
}
WITH_CONFIG = {"check": ("data", "check"), "evaluate": ("evaluate",)}
"""Jobs that are given a whole run's configuration, which options of a recipe make up."""
PATHS = ("source", "dest", "videos", "out", "annotations", "metadata", "checkpoint")


def test_every_job_has_a_command_here() -> None:
    assert set(COMMANDS) | set(WITH_CONFIG) == set(JOBS)


@pytest.mark.parametrize("kind", JOBS)
def test_every_value_of_a_job_can_be_given(kind: str) -> None:
    command: click.Command | None = main.tspctl
    for word in (COMMANDS[kind][0] if kind in COMMANDS else WITH_CONFIG[kind])[:2]:
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), word)
    assert command is not None
    given = {parameter.name for parameter in command.params}
    made_here = {"config"} if kind in WITH_CONFIG else {"store"}
    made_here |= {"shards", "shard", "merge_only"} if issubclass(JOBS[kind], SharedJob) else set()
    assert {field.name for field in dataclasses.fields(JOBS[kind])} <= given | made_here


@pytest.mark.parametrize("kind", COMMANDS)
def test_options_become_the_job(tspctl: Tspctl, local: Path, kind: str) -> None:
    arguments, expected = COMMANDS[kind]
    ended = tspctl(*arguments, "-o", "json")
    assert ended.code == 0, ended.err
    assert ended.json["kind"] == kind
    sent = ended.json["job"]
    job_from_dict(kind, sent)
    for key, value in expected.items():
        assert sent[key] == (str(Path(value).absolute()) if key in PATHS else value), key


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("raw", "videos"), None),
        (("raw", "videos", "--training-copy"), "mjpeg"),
        (("raw", "videos", "--training-copy", "--overwrite"), "mjpeg"),
        (("--training-copy", "in", "videos"), "mjpeg"),
        (("--training-copy", "raw", "in", "videos"), "raw"),
        (("in", "videos", "--training-copy=raw"), "raw"),
    ],
)
def test_a_training_copy_is_mjpeg_unless_a_format_is_named(
    tspctl: Tspctl, local: Path, arguments: tuple[str, ...], expected: str | None
) -> None:
    assert tspctl("data", "standardize", *arguments, "-o", "json").json["job"]["training_copy"] == expected


def test_check_sends_the_run_as_it_would_be_submitted(tspctl: Tspctl, local: Path, data_root: Path) -> None:
    sent = tspctl("data", "check", "--dataset", "demo", "--method", "tsp", "--decode", "-o", "json").json["job"]
    assert (sent["decode"], sent["config"]["method"], sent["config"]["data"]["root"]) == (True, "tsp", str(data_root))


def test_check_needs_no_store(tspctl: Tspctl, local: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the header of the example's YAML file gives it: on a laptop, before any store is chosen."""
    monkeypatch.delenv("TSPCTL_STORE")
    monkeypatch.delenv("TSPCTL_BACKEND")
    ended = tspctl("data", "check", "--dataset", "demo", "--method", "tac", "-o", "json")
    assert ended.code == 0, ended.err
    assert ended.json["job"]["config"]["data"]["root"] == str(data_root)
    assert tspctl("submit", "--dataset", "demo", "--method", "tac", "--dry-run").code == 2  # a run does


def test_the_answer_is_a_table_and_its_exit_code_is_kept(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(job_exit=3, answer={"rows": [{"file": "a.mp4", "problem": "short"}, {"file": "b.mp4"}], "num_bad": 2})
    ended = tspctl("data", "probe", "videos")
    assert ended.code == 3
    assert ended.out.splitlines() == ["FILE    PROBLEM", "a.mp4   short", "b.mp4   -", "", "num bad   2"]
    plan_ranks(answer=["no object"])
    assert tspctl("data", "probe", "videos").code == 1


def test_shards_share_the_work_and_are_merged(tspctl: Tspctl, local: Path) -> None:
    assert tspctl(*EXTRACT, "--shards", "2", "-o", "json").json["job"]["merge_only"] is True
    shards = [json.loads(Path(f"extract-{shard}-False.json").read_text()) for shard in (0, 1)]
    assert [(shard["shards"], shard["shard"], shard["lines are of"]) for shard in shards] == [(2, 0, "0"), (2, 1, "1")]


def test_a_failed_shard_stops_the_merge(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(job_exit=6)
    assert tspctl(*EXTRACT, "--shards", "2").code == 6
    assert not Path("extract-None-True.json").exists()


def test_extract_takes_the_best_epoch_of_a_run(tspctl: Tspctl, local: Path) -> None:
    (local / "a").mkdir(parents=True)
    line = "** Valid Epoch {}:  <action-label> Accuracy {} Loss 0.990; Total Loss 1.623 Avg Accuracy {}\n"
    (local / "a" / "results.txt").write_text(line.format(0, "90.000", "90.000") + line.format(1, "10.000", "10.000"))
    for epoch in (0, 1):
        (local / "a" / f"epoch_{epoch}.pth").write_text("")
    rest = EXTRACT[2:]
    assert tspctl("extract", "a", *rest, "-o", "json").json["job"]["checkpoint"] == str(local / "a" / "epoch_0.pth")
    sent = tspctl("extract", "a", "--epoch", "1", *rest, "-o", "json").json["job"]
    assert sent["checkpoint"] == str(local / "a" / "epoch_1.pth")
    assert tspctl("extract", "nobody", *rest).code == 102
    assert tspctl("extract", "x.pth", "--epoch", "1", *rest).code == 2


def test_features_of_a_run_go_to_its_folder_and_those_of_a_file_here_unless_told_otherwise(
    tspctl: Tspctl, local: Path, home: Path
) -> None:
    (local / "a").mkdir(parents=True)
    line = "** Valid Epoch 4:  <action-label> Accuracy 90.000 Loss 0.990; Total Loss 1.623 Avg Accuracy 90.000\n"
    (local / "a" / "results.txt").write_text(line)
    (local / "a" / "epoch_4.pth").write_text("")
    rest = ("--data", "videos", "--metadata", "m.csv", "-o", "json")
    for arguments, out in {
        ("extract", "a", "--stride", "1"): local / "a" / "features" / "epoch_4-stride_1.h5",
        ("extract", "a", "--format", "npy"): local / "a" / "features" / "epoch_4-stride_16",
        ("gvf", "a", "--pool", "avg"): local / "a" / "features" / "epoch_4-gvf_avg-stride_16.h5",
        ("extract", "weights/model.pth"): home / "model-stride_16.h5",
        ("gvf", "https://example.org/tac.pth.tar"): home / "tac-gvf_max-stride_16.h5",
    }.items():
        assert tspctl(*arguments, *rest).json["job"]["out"] == str(out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "standardize", "s3://raw/videos", "there"),
        ("data", "standardize", "here", "s3://raw/videos"),
        ("data", "probe", "s3://raw/videos"),
        ("data", "annotate", "a.json", "--metadata", "m.csv", "--out", "s3://raw/t.csv"),
        ("extract", "s3://raw/model.pth", *EXTRACT[2:]),
        ("gvf", "model.pth", "--data", "s3://raw/videos", "--metadata", "m.csv", "--out", "f.h5"),
        ("features", "convert", "s3://raw/features.h5", "here"),
        ("features", "info", "s3://raw/features.h5"),
    ],
)
def test_a_job_that_touches_s3_is_told_how_to_speak_to_the_server(
    tspctl: Tspctl, local: Path, home: Path, arguments: tuple[str, ...]
) -> None:
    (home / "tspctl.toml").write_text('endpoint_url = "http://minio:9000"\nregion = "eu-1"\n')
    sent = tspctl(*arguments, "-o", "json").json["job"]["store"]
    # The store of runs is a folder here, so only the bucket is known.
    assert (sent["uri"], sent["endpoint_url"], sent["region"]) == ("s3://raw", "http://minio:9000", "eu-1")
    sent = tspctl(*arguments, "--store", "s3://team/runs", "-o", "json").json["job"]["store"]
    assert (sent["uri"], sent["endpoint_url"]) == ("s3://team/runs", "http://minio:9000")


def test_a_job_of_files_alone_is_told_of_no_server(tspctl: Tspctl, local: Path) -> None:
    assert tspctl("data", "standardize", "here", "there", "-o", "json").json["job"]["store"] is None


def test_videos_come_from_the_settings_unless_told_otherwise(
    tspctl: Tspctl, local: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TSPCTL_DATA")
    words = ("extract", "weights.pth", "--metadata", "m.csv", "-o", "json")
    assert tspctl(*words).code == 2
    assert "give --data, or set 'data' in tspctl.toml" in tspctl(*words).err
    (home / "tspctl.toml").write_text('data = "/videos"\n')
    for kind in ("extract", "gvf"):
        assert tspctl(kind, *words[1:]).json["job"]["videos"] == "/videos"
    assert tspctl(*words, "--data", "/other").json["job"]["videos"] == "/other"
    # {dataset} is the data set that the run was trained on; a bare checkpoint names none.
    (home / "tspctl.toml").write_text('data = "/data/{dataset}"\n[datasets]\nthumos14 = "/fast/thumos14"\n')
    refused = tspctl(*words)
    assert (refused.code, "/data/{dataset} in the settings contains {dataset}" in refused.err) == (2, True)
    for dataset, videos in (("demo", "/data/demo"), ("thumos14", "/fast/thumos14")):
        store = LocalStore(local)
        config = resolve(load_dataset(dataset), "tac", name=dataset, store={"uri": store.uri}, root="/data")
        StoredRun(store, dataset).create(config, None)
        result = "** Valid Epoch 0:  <action-label> Accuracy 9.000 Loss 0.990; Total Loss 1.623 Avg Accuracy 9.000\n"
        store.write(f"{dataset}/results.txt", result.encode())
        store.write(f"{dataset}/epoch_0.pth", b"")
        assert tspctl("extract", dataset, *words[2:]).json["job"]["videos"] == videos


def test_videos_of_the_settings_reach_a_job_on_the_cluster(
    tspctl: Tspctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.backends import open as backends

    cluster = Sent()
    monkeypatch.setattr(backends, "open_backend", lambda settings, stores, name=None: cluster)
    (home / "tspctl.toml").write_text('data = "s3://videos/thumos14"\nstore = "s3://team/runs"\n')
    for kind in ("extract", "gvf"):
        ended = tspctl(kind, "s3://team/w.pth", "--metadata", "s3://team/m.csv", "--out", "s3://team/f.h5")
        assert ended.code == 0, ended.err
    assert [(kind, job.videos) for kind, job in cluster.jobs] == [
        ("extract", "s3://videos/thumos14"),
        ("gvf", "s3://videos/thumos14"),
    ]


class Sent:
    """A cluster that takes whatever it is sent."""

    name = "kubernetes"

    def with_paths(self, config: RunConfig, dataset: str | None) -> RunConfig:
        return config

    def refuse_ignored(self, given: dict[str, Any]) -> None: ...

    def with_job_paths(self, values: dict[str, Any], keys: Any) -> dict[str, Any]:
        return values

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Any]] = []

    def run_job(self, name: str, job: Any, options: Any, *, gpus: int) -> None:
        self.jobs.append((job.kind, job))


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "/data/videos", "--out", "/data/m.csv"),
        ("annotate", "/data/texts", "--metadata", "/data/m.csv", "--out", "/data/t.csv"),
        ("check", "--dataset", "demo", "--method", "tac"),
        ("demo", "/data/demo"),
    ],
)
def test_a_job_that_runs_here_by_default_can_be_sent_to_where_the_data_is(
    tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    from cli.backends import open as backends

    cluster, real = Sent(), backends.open_backend
    monkeypatch.setattr(
        backends,
        "open_backend",
        lambda settings, stores, name: real(settings, stores, name) if name == "local" else cluster,
    )
    monkeypatch.setenv("TSPCTL_BACKEND", "kubernetes")
    assert tspctl("data", *arguments).code == 0
    assert cluster.jobs == []
    ended = tspctl("data", *arguments, "--on-cluster", "--name", "far")
    assert (ended.code, ended.out) == (0, "far\n"), ended.err
    ((kind, job),) = cluster.jobs
    assert (kind, job) == (arguments[0], job_from_dict(arguments[0], to_dict(job)))


def test_a_bad_value_is_refused_before_anything_starts(tspctl: Tspctl, local: Path) -> None:
    ended = tspctl("data", "standardize", "raw", "videos", "--fps", "0")
    assert (ended.code, "'--fps': 0.0 is not in the range 0<x<=1000" in ended.err) == (2, True)
    assert tspctl("data", "standardize", "raw", "videos", "--training-copy=png").code == 2
    assert not Path("standardize-None-None.json").exists()
