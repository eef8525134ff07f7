"""One row a kind of job: everybody who must know of it agrees, and no path of it goes unseen."""

import dataclasses
import json
from dataclasses import make_dataclass
from pathlib import Path

import click
import pytest

from tests.commands import command_of
from tsp.config import jobs
from tsp.config.codec import to_dict
from tsp.config.job import (
    Answer,
    Job,
    ParallelJob,
    SharedJob,
    StoreJob,
    given_paths,
    own_share,
    path_fields,
    reads,
    written_paths,
)
from tsp.config.jobs import JOBS, AnnotateJob, ExtractJob, FeaturesJob, ProbeJob, RunJob, StandardizeJob, job_from_dict
from tsp.config.recipes import load_dataset, resolve
from tsp.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
EXTRACTION = {"checkpoint": "c.pth", "videos": "v", "metadata": "m.csv", "out": "o.h5"}


def test_every_class_with_a_kind_is_in_the_table():
    classes = [item for item in vars(jobs).values() if isinstance(item, type) and issubclass(item, Job)]
    assert {job for job in classes if "kind" in vars(job)} - {Job} == set(JOBS.values())
    assert all(job.kind == kind for kind, job in JOBS.items())


@pytest.mark.parametrize("kind", JOBS)
def test_every_field_of_text_says_whether_it_is_a_path(kind):
    assert path_fields(JOBS[kind])


@pytest.mark.parametrize("hint", [str, str | None, tuple[str, ...], dict[str, str] | None])
def test_a_kind_with_a_field_of_text_that_says_nothing_is_refused(hint):
    copy_job = make_dataclass(
        "CopyJob", [("source", str, reads("SOURCE")), ("target", hint, None)], bases=(Job,), frozen=True, kw_only=True
    )
    with pytest.raises(TypeError, match=r"CopyJob\.target must be declared by reads, writes, scratch or text"):
        path_fields(copy_job)


def test_a_field_of_several_paths_is_refused_since_nobody_would_resolve_them():
    copy_job = make_dataclass(
        "CopyJob", [("sources", tuple[str, ...], reads("SOURCE"))], bases=(Job,), frozen=True, kw_only=True
    )
    with pytest.raises(TypeError, match=r"CopyJob\.sources must hold one path, not several"):
        path_fields(copy_job)


def test_what_kinds_have_in_common_is_checked_once_for_all():
    """Nothing but ``Job`` and its bases may declare these, or one kind could forget its check."""
    shared = {"store": StoreJob, "config": RunJob, "workers": ParallelJob, "shards": SharedJob, "shard": SharedJob}
    for job in JOBS.values():
        owners = {name: next(base for base in job.__mro__ if name in vars(base).get("__annotations__", {}))
                  for name in shared if name in {item.name for item in dataclasses.fields(job)}}  # fmt: skip
        assert owners == {name: shared[name] for name in owners}


@pytest.mark.parametrize(
    ("kind", "field", "bad", "message"),
    [
        ("standardize", "fps", 0, "--fps must be above 0 and at most 1000, got 0"),
        ("standardize", "crf", 52, r"--crf must lie in \[0, 51\], got 52"),
        ("standardize", "max_height_px", 15, "--max-height must be at least 16, got 15"),
        ("probe", "workers", -1, "--workers must be at least 0, got -1"),
        ("annotate", "min_background_sec", float("inf"), "--min-background must be at least 0, got inf"),
        ("demo", "num_valid_videos", 0, "--valid-videos must be at least 1, got 0"),
        ("demo", "dest", "s3://bucket/demo", r"DEST \(s3://bucket/demo\) begins with s3://: expected a path"),
        ("demo", "num_train_videos", 0, "--train-videos must be at least 1, got 0"),
        ("features", "resize", 100_001, r"--resize must lie in \[1, 100000\], got 100001"),
        ("extract", "stride_frames", 0, "--stride must lie in .1, 1000000., got 0"),
        ("extract", "length_frames", 0, "--clip-frames must lie in .1, 10000., got 0"),
        ("gvf", "rate_fps", float("nan"), "--rate must be above 0 and at most 1000, got nan"),
        ("gvf", "batch", 0, "--batch must be at least 1, got 0"),
        ("extract", "cache_mib", 0, "--cache-mib must be at least 1, got 0"),
        ("features", "resize", 0, r"--resize must lie in \[1, 100000\], got 0"),
        ("features", "prefix", "a/b", "--prefix must be the beginning of a file name, got 'a/b'"),
        ("extract", "prefix", "a/b", "--prefix must be the beginning of a file name, got 'a/b'"),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_its_option(kind, field, bad, message):
    required = {name: "x" for name in path_fields(JOBS[kind])}
    with pytest.raises(ConfigError, match=message):
        job_from_dict(
            kind, {**required, "subset": "all", field: bad} if kind == "annotate" else {**required, field: bad}
        )


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("standardize", "fps", 0.5),
        ("standardize", "crf", 0),
        ("standardize", "crf", 51),
        ("standardize", "max_height_px", 16),
        ("standardize", "shards", 1),
        ("probe", "workers", 0),
        ("annotate", "min_background_sec", 0.0),
        ("demo", "num_train_videos", 1),
        ("demo", "num_valid_videos", 1),
        ("extract", "stride_frames", 1),
        ("extract", "length_frames", 1),
        ("gvf", "rate_fps", 0.5),
        ("gvf", "batch", 1),
        ("extract", "cache_mib", 1),
        ("features", "resize", 1),
        ("features", "resize", 100_000),
    ],
)
def test_the_least_and_the_most_that_work_are_taken(kind, field, value):
    required = {name: "x" for name in path_fields(JOBS[kind])} | ({"subset": "all"} if kind == "annotate" else {})
    assert getattr(job_from_dict(kind, {**required, field: value}), field) == value


def test_the_chart_takes_every_kind_and_no_other():
    schema = json.loads((ROOT / "charts" / "tsp" / "values.schema.json").read_text())
    assert set(schema["properties"]["job"]["properties"]["kind"]["enum"]) == {"train", *JOBS}


def test_what_a_kind_says_of_itself():
    table = {kind: (job.needs_gpu, job.runs_in_place, issubclass(job, SharedJob)) for kind, job in JOBS.items()}
    assert table == {
        "standardize": (False, False, True),
        "probe": (False, True, False),
        "annotate": (False, True, False),
        "check": (False, True, False),
        "demo": (False, True, False),
        "evaluate": (True, False, True),
        "extract": (True, False, True),
        "gvf": (True, False, True),
        "features": (False, True, False),
    }


def test_paths_are_found_by_what_is_done_with_them():
    job = AnnotateJob(annotations="s3://b/a.json", metadata="m.csv", out="t.csv", labels_out="s3://b/maps", subset="x")
    assert [(field.option, field.access, path) for field, path in given_paths(job)] == [
        ("ANNOTATIONS", "read", "s3://b/a.json"),
        ("--metadata", "read", "m.csv"),
        ("--out", "write", "t.csv"),
        ("--labels-out", "write", "s3://b/maps"),
    ]
    assert written_paths(job) == ["t.csv"]


def _parameters(kind: str) -> dict[str | None, click.Parameter]:
    """Of the command that starts such a job, by name."""
    return {parameter.name: parameter for parameter in command_of(kind).params}


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_by_hand_has_the_defaults_that_the_command_line_shows(kind):
    defaults = {item.name: item.default for item in dataclasses.fields(JOBS[kind])}
    shown = {
        name: parameter.default
        for name, parameter in _parameters(kind).items()
        if name in defaults and isinstance(parameter.default, str | int | float)
    }
    assert shown == {name: defaults[name] for name in shown}


def test_what_the_command_line_leaves_to_the_job():
    job = ExtractJob(**EXTRACTION)
    assert (job.workers, job.shards, job.shard, job.batch, job.merge_only) == (None, 1, None, None, False)
    assert job.cache_mib == 20 << 10


@pytest.mark.parametrize("kind", JOBS)
def test_a_path_is_named_as_the_command_line_names_it(kind):
    options = _parameters(kind)
    for name, field in path_fields(JOBS[kind]).items():
        parameter = options[name]
        shown = parameter.opts[0] if isinstance(parameter, click.Option) else name.upper()
        assert field.option == shown


@pytest.mark.parametrize(("kind", "field"), [(kind, name) for kind in JOBS for name in path_fields(JOBS[kind])])
def test_no_path_of_a_job_may_hold_a_password(kind, field):
    required = {name: "x" for name, item in path_fields(JOBS[kind]).items()}
    if issubclass(JOBS[kind], RunJob):
        required["config"] = to_dict(
            resolve(load_dataset("demo"), "tac", name="c", store={"uri": "s3://b"}, root="videos")
        )
    required |= {"subset": "training"} if kind == "annotate" else {}
    job_from_dict(kind, required)
    with pytest.raises(ConfigError) as caught:
        job_from_dict(kind, {**required, field: "https://me:hunter2hunter2@host/x"})
    assert "hunter2" not in str(caught.value)


def test_a_job_survives_json_unchanged():
    job = ExtractJob(**EXTRACTION, shards=3, shard=1)
    assert job_from_dict("extract", json.loads(json.dumps(to_dict(job)))) == job
    with pytest.raises(ConfigError, match="unknown job 'train'"):
        job_from_dict("train", {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": 0}, "--shards must be at least 1"),
        ({"shards": 2, "shard": 2}, r"shard must lie in \[0, 2\)"),
        ({"shards": 2, "shard": -1}, r"shard must lie in \[0, 2\)"),
        ({"shards": 2, "shard": 1, "merge_only": True}, "either works on one shard or merges"),
    ],
)
def test_a_share_that_does_not_exist_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ExtractJob(**EXTRACTION, **changes)


@pytest.mark.parametrize("shard", [0, 1, 2, None])
def test_every_shard_there_is_is_taken(shard):
    assert ExtractJob(**EXTRACTION, shards=3, shard=shard).shard == shard


def env(index=None, shards=None):
    given = {"JOB_COMPLETION_INDEX": index, "TSP_NUM_SHARDS": shards}
    return {key: value for key, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("job", "environment", "expected"),
    [
        (ExtractJob(**EXTRACTION, shards=4), env("2", "4"), (4, 2)),
        (ExtractJob(**EXTRACTION), env("2", "4"), (4, 2)),
        (ExtractJob(**EXTRACTION, shards=4), env("2"), (4, 2)),
        (ExtractJob(**EXTRACTION, shards=4, shard=1), env("2", "4"), (4, 1)),
        (ExtractJob(**EXTRACTION, shards=4, merge_only=True), env("2", "4"), (4, None)),
        (ExtractJob(**EXTRACTION, shards=4), {}, (4, None)),
        (ExtractJob(**EXTRACTION), env("0", "1"), (1, None)),
        (ExtractJob(**EXTRACTION), env("0"), (1, None)),
        (StandardizeJob(source="a", dest="b"), env("1", "2"), (2, 1)),
    ],
)
def test_a_process_takes_its_own_share(job, environment, expected):
    share = own_share(job, environment)
    assert (share.shards, share.shard) == expected
    assert dataclasses.replace(share, shards=1, shard=None) == dataclasses.replace(job, shards=1, shard=None)


def test_a_job_that_cannot_be_split_is_done_whole():
    job = ProbeJob(videos="v")
    assert own_share(job, env("1", "2")) is job


@pytest.mark.parametrize(
    ("bad", "variable"),
    [
        (env("4", "4"), "JOB_COMPLETION_INDEX"),
        (env("-1", "4"), "JOB_COMPLETION_INDEX"),
        (env("two", "4"), "JOB_COMPLETION_INDEX"),
        (env("1", "many"), "TSP_NUM_SHARDS"),
        (env("0", "0"), "TSP_NUM_SHARDS"),
    ],
)
def test_a_shard_that_the_job_does_not_have_is_refused_by_the_variable(bad, variable):
    with pytest.raises(ConfigError, match=f"the variable {variable} "):
        own_share(ExtractJob(**EXTRACTION), bad)


def test_an_answer_is_rows_and_then_facts():
    answer = Answer(rows=[{"video": "a"}], facts={"videos": 1}, exit_code=3)
    assert answer.to_dict() == {"rows": [{"video": "a"}], "videos": 1}


@pytest.mark.parametrize(
    ("dest", "given", "written"),
    [
        ("a.h5", None, "h5"),
        ("s3://b/a.hdf5", None, "h5"),
        ("folder", None, "npy"),
        ("h5", None, "npy"),
        (None, None, "npy"),
        ("a.h5", "npy", "npy"),
        ("folder", "h5", "h5"),
    ],
)
def test_features_are_written_as_asked_for_and_else_as_the_name_says(dest, given, written):
    assert FeaturesJob(source="a", dest=dest, format=given).dest_format == written
