"""The data tools from S3 to S3, against real servers: nothing of a data set has to lie on this machine."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.jobs import do_job
from tests.limits import files_of_at_most
from tests.prepare.conftest import grey_frames
from tests.prepare.test_standardize import EVEN_MS, write
from tsp.data.video.encode import write_video
from tsp.data.video.inspect import inspect_video
from tsp.data.video.training_copy import format_of_copy
from tsp.errors import ConfigError, DataError, StoreError
from tsp.store.files import (
    folder_and_name,
    list_files,
    local_path,
    open_folder,
    output_folder_and_name,
    reading,
    writing,
)
from tsp.store.local import LocalStore
from tsp.store.open import open_store
from tsp.store.scratch import LOCK, cache_folder, scratch, temporary_folder


@pytest.fixture
def bucket(s3_server, tmp_path, monkeypatch):
    """Raw videos below a prefix of a bucket: an AVI, an MKV in a folder of its own, a broken file, and no video."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = s3_server.config(tmp_path.name)
    store = open_store(config)
    write(tmp_path / "a.avi", "mpeg4", EVEN_MS)
    write(tmp_path / "b.mkv", "libx264", EVEN_MS[:30], height=50)
    for key, content in {
        "raw/a.avi": (tmp_path / "a.avi").read_bytes(),
        "raw/more/b.mkv": (tmp_path / "b.mkv").read_bytes(),
        "raw/bad.mp4": b"no video at all",
        "raw/notes.txt": b"these are not the videos of raw2",
        "raw2/other.mp4": b"of another prefix",
    }.items():
        store.write(key, content)
    return store


def job(bucket, **given):
    # In this process: others are forked from a server that an earlier test may have started, with its environment.
    request = {
        "source": f"{bucket.uri}/raw",
        "dest": f"{bucket.uri}/std/",
        "store": asdict(bucket.config),
        "workers": 1,
    }
    return {**request, **given}


def keys(bucket, prefix="std/"):
    return [entry.key.removeprefix(prefix) for entry in bucket.list(prefix)]


def times(bucket):
    return {entry.key: entry.modified for entry in bucket.list("std/")}


def test_videos_are_standardised_from_s3_to_s3_and_nothing_stays_here(bucket, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tsp.entrypoint", "standardize"],
        input=json.dumps(job(bucket, workers=2)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert [(row["video"], row["status"]) for row in answer["rows"]] == [
        ("a.avi", "written"),
        ("bad.mp4", "broken"),
        ("more/b.mkv", "written"),
    ]
    assert f"cannot open the video {bucket.uri}/raw/bad.mp4" in answer["rows"][1]["why"]
    assert (done.returncode, keys(bucket)) == (3, ["a.mp4", "more/b.mp4"])
    bucket.download("std/more/b.mp4", tmp_path / "b.mp4")
    report = inspect_video(tmp_path / "b.mp4", decode_all=True)
    assert (report.codec, report.fps, report.height, report.num_frames, report.faults) == ("h264", 30.0, 50, 30, ())
    assert [path.name for path in cache_folder("scratch").iterdir()] == [LOCK]


def test_a_second_run_over_s3_leaves_finished_files_alone(bucket):
    do_job("standardize", job(bucket))
    before = times(bucket)
    bucket.delete("std/more/b.mp4")
    answer = do_job("standardize", job(bucket))
    assert [row["status"] for row in answer["rows"]] == ["there already", "broken", "written"]
    assert times(bucket)["std/a.mp4"] == before["std/a.mp4"]


def test_training_copies_lie_beside_their_files_in_s3_and_change_format_when_asked(bucket, tmp_path):
    source = f"{bucket.uri}/raw/a.avi"
    (row,) = do_job("standardize", job(bucket, source=source, training_copy="mjpeg"))["rows"]
    assert (row["status"], row["training_copy"], keys(bucket)) == ("written", "written", ["a.mp4", "a.train.mov"])
    num_frames = row["frames"]
    (row,) = do_job("standardize", job(bucket, source=source, training_copy="mjpeg"))["rows"]
    assert (row["status"], row["training_copy"]) == ("there already", "there already")
    (row,) = do_job("standardize", job(bucket, source=source, training_copy="raw"))["rows"]
    assert (row["status"], row["training_copy"]) == ("there already", "replaced")
    bucket.download("std/a.train.mov", tmp_path / "a.train.mov")
    assert format_of_copy(tmp_path / "a.train.mov") == "raw"
    assert inspect_video(tmp_path / "a.train.mov").num_frames == num_frames


def test_shards_share_the_objects_of_a_prefix(bucket):
    done = [
        {row["video"] for row in do_job("standardize", job(bucket, shards=2, shard=shard))["rows"]}
        for shard in range(2)
    ]
    assert all(done)
    assert not done[0] & done[1]
    assert done[0] | done[1] == {"a.avi", "bad.mp4", "more/b.mkv"}


def test_what_lies_in_s3_can_be_written_to_a_folder_and_back(bucket, tmp_path):
    do_job("standardize", job(bucket, dest=str(tmp_path / "here")))
    assert sorted(path.name for path in (tmp_path / "here").rglob("*.mp4")) == ["a.mp4", "b.mp4"]
    answer = do_job("standardize", job(bucket, source=str(tmp_path / "here"), dest=f"{bucket.uri}/again"))
    assert (answer["broken"], keys(bucket, "again/")) == (0, ["a.mp4", "more/b.mp4"])


def test_probe_reads_and_writes_s3(bucket):
    written = {row["video"]: row["frames"] for row in do_job("standardize", job(bucket))["rows"]}
    out = f"{bucket.uri}/videos.csv"
    answer = do_job("probe", {"videos": f"{bucket.uri}/std", "out": out, "store": asdict(bucket.config), "workers": 1})
    assert [(row["filename"], row["video-frames"]) for row in answer["rows"]] == [
        ("a.mp4", written["a.avi"]),
        ("more/b.mp4", 30),
    ]
    table = list(csv.DictReader(bucket.read("videos.csv").decode().splitlines()))
    assert [(row["filename"], row["fps"]) for row in table] == [("a.mp4", "30.0"), ("more/b.mp4", "30.0")]
    answer = do_job("probe", {"videos": f"{bucket.uri}/raw", "store": asdict(bucket.config), "workers": 1})
    why = {item["filename"]: item["why"] for item in answer["broken"]}
    assert f"{bucket.uri}/raw/bad.mp4" in why["bad.mp4"]


@pytest.mark.parametrize("kind", ["activitynet", "thumos14"])
def test_annotate_reads_and_writes_s3(bucket, kind, tmp_path):
    bucket.write("m.csv", b"filename,video-duration,fps,video-frames\na.mp4,9.0,30.0,270\n")
    bucket.write("texts/Run_val.txt", b"a 1.0 3.0\n")
    annotation = {"segment": [1.0, 3.0], "label": "Run"}
    bucket.write("a.json", json.dumps({"database": {"a": {"subset": "x", "annotations": [annotation]}}}).encode())
    answer = do_job(
        "annotate",
        {
            "annotations": f"{bucket.uri}/{'a.json' if kind == 'activitynet' else 'texts'}",
            "metadata": f"{bucket.uri}/m.csv",
            "out": f"{bucket.uri}/t.csv",
            "labels_out": f"{bucket.uri}/labels/",
            "store": asdict(bucket.config),
        },
    )
    rows = list(csv.DictReader(bucket.read("t.csv").decode().splitlines()))
    assert (rows[0]["t-start"], rows[0]["action-label"]) == ("1.0", "Run")
    assert answer["label_maps"] == [
        f"{bucket.uri}/labels/{name}_label_mapping.json" for name in ("action", "temporal_region")
    ]
    assert json.loads(bucket.read("labels/action_label_mapping.json")) == ["Run"]


def test_an_empty_prefix_is_named(bucket):
    with pytest.raises(DataError, match=f"{bucket.uri}/nowhere contains no video files"):
        do_job("standardize", job(bucket, source=f"{bucket.uri}/nowhere"))


def test_a_destination_inside_the_source_is_not_standardised_again(tmp_path):
    write_video(tmp_path / "in/a.mp4", grey_frames(15))
    request = {"source": str(tmp_path / "in"), "dest": str(tmp_path / "in/std"), "workers": 1}
    for status in ("written", "there already"):
        assert [(row["video"], row["status"]) for row in do_job("standardize", request)["rows"]] == [("a.mp4", status)]


def _half(path):
    path.write_bytes(b"half")
    raise DataError("the decoder gave up")


def test_a_file_that_fails_half_way_is_not_uploaded(bucket):
    folder = open_folder(f"{bucket.uri}/std", bucket.config)
    with pytest.raises(DataError, match="decoder"), folder.writing("x.mp4") as path:
        _half(path)
    assert not folder.exists("x.mp4")


@pytest.mark.parametrize("kind", [scratch, temporary_folder])
def test_what_a_killed_process_left_is_removed_and_what_others_use_is_not(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = (
        f"from tsp.store.scratch import {kind.__name__} as kind; import os\n"
        "with kind() as f: print(f); (f / 'x').touch(); os._exit(9)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    ended = subprocess.run([sys.executable, "-c", killed], env=environment, check=False, capture_output=True, text=True)
    left = Path(ended.stdout.strip())
    assert (left / "x").exists()
    with kind() as first:
        assert first.parent == left.parent
        assert not left.exists()
        (first / "mine").touch()
        with kind() as second:
            assert (first / "mine").exists()
        assert not second.exists()


def test_a_folder_for_temporary_files_that_another_user_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent.stat().st_mode & 0o777 == 0o700
    another = os.getuid() + 1
    folder.parent.rename(tmp_path / f"tspctl-{another}")
    monkeypatch.setattr("os.getuid", lambda: another)
    with pytest.raises(StoreError, match="belongs to another user"), temporary_folder():
        pass


def test_a_folder_in_transit_that_somebody_has_removed_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with scratch() as folder:
        shutil.rmtree(folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: (folder / "a").write_bytes(bytes(100)),
        lambda folder: shutil.copy(__file__, folder / "a"),
        lambda folder: os.pwrite(os.open(folder / "a", os.O_CREAT | os.O_WRONLY), bytes(100), 50),
    ],
)
def test_a_folder_in_transit_whose_disk_is_full_is_named(tmp_path, write):
    """Whatever writes to it: half of the errors name no file."""
    with (
        files_of_at_most(10),
        pytest.raises(StoreError, match=f"^{tmp_path}/.* would be larger"),
        scratch(tmp_path) as to,
    ):
        write(to)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full", "/elsewhere"), OSError(errno.EIO, "faulty")])
def test_other_errors_are_not_those_of_a_folder_in_transit(tmp_path, error):
    with pytest.raises(OSError, match=r"full|faulty"), scratch(tmp_path):
        raise error


@pytest.mark.parametrize("address", ["s3://bucket", "s3://bucket/", "s3://bucket/tables/"])
def test_a_table_needs_a_name(address):
    with pytest.raises(ConfigError, match="has no file name"), writing(address, None):
        pass


@pytest.mark.parametrize("out", ["s3://bucket", "s3://bucket/a/", "file:///", "file://host", "/tmp/", ""])
def test_an_output_needs_a_name(out):
    with pytest.raises(ConfigError, match=r"has no file name: give for instance .*/x\.json"):
        output_folder_and_name(out, like="x.json")


@pytest.mark.parametrize(
    ("address", "folder", "name"),
    [("s3://b/a/x.h5", "s3://b/a", "x.h5"), ("/x.h5", "/", "x.h5"), ("x.h5", ".", "x.h5"), ("a/x.h5", "a", "x.h5")],
)
def test_an_address_is_a_folder_and_a_name_in_it(address, folder, name):
    assert folder_and_name(address) == output_folder_and_name(address, like="x") == (folder, name)


def test_addresses_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="use s3://bucket/prefix, file:///folder or a folder"):
        open_folder("ftp://host/videos", None)
    assert open_folder(f"file://{tmp_path}", None).address("a") == f"{tmp_path}/a"
    with reading("~/x", None) as path:
        assert path == local_path("~/x")


def test_a_folder_is_listed_and_one_that_is_missing_or_a_file_is_an_error(tmp_path):
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "b.mp4").write_bytes(b"12")
    (folder / ".hidden").write_bytes(b"1")
    assert list_files(LocalStore(folder)) == {"sub/b.mp4": 2}
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        list_files(LocalStore(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"b\.mp4 is a file, not a folder"):
        list_files(LocalStore(folder / "sub" / "b.mp4"))
