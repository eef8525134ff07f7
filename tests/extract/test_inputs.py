"""Where checkpoints and videos come from."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import h5py
import pytest
import torch

from tests.extract.conftest import SmallSet
from tests.jobs import do_job
from tests.s3_servers import S3Server
from tsp.config.codec import from_dict
from tsp.config.jobs import ExtractJob
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError
from tsp.extract.inputs import fetch_checkpoint, open_videos
from tsp.extract.video_parts import NPY_HEADER_BYTES, VideoParts
from tsp.run.results import EpochResult, HeadResult, format_line
from tsp.store.open import open_store


def test_the_address_of_a_run_stands_for_its_best_epoch(small_set: SmallSet) -> None:
    run = small_set.root / "runs" / "my-run"
    run.mkdir(parents=True)
    lines = []
    for epoch, accuracy in enumerate((40.0, 60.0, 50.0)):
        head = HeadResult("action-label", accuracy, 1.0)
        lines.append(format_line(EpochResult(epoch, (head,), 1.0, accuracy)))
        (run / f"epoch_{epoch}.pth").write_bytes(b"not this one")
    (run / "results.txt").write_text("\n".join(lines) + "\n")
    (run / "epoch_1.pth").write_bytes((small_set.root / "epoch_0.pth").read_bytes())
    answer = do_job("extract", small_set.job(checkpoint=str(run)))
    assert (answer["videos"], answer["backbone"]) == (4, "tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "/nowhere/epoch_1.pth"}, "no file /nowhere"),
        ({"videos": "/nowhere/videos"}, "/nowhere/videos does not exist"),
        ({"out": "s3://bucket"}, "has no file name"),
        ({"out": "/tmp/"}, "has no file name"),
    ],
)
def test_what_is_not_there_is_named(changes: dict[str, str], message: str, small_set: SmallSet) -> None:
    with pytest.raises(ConfigError, match=message):
        do_job("extract", small_set.job(**changes))


@pytest.mark.parametrize(
    ("out", "uri", "name"),
    [
        ("s3://bucket/a/b/features.h5", "s3://bucket/a/b", "features.h5"),
        ("s3://bucket/features.h5", "s3://bucket", "features.h5"),
        ("file:///data/features.h5", "/data", "features.h5"),
        ("/data/features.h5", "/data", "features.h5"),
        ("/features.h5", "", "features.h5"),
    ],
)
def test_the_parts_lie_beside_the_output(out: str, uri: str, name: str) -> None:
    parts = VideoParts.beside(out, None)
    assert (parts.store.uri, parts.name, parts.address) == (uri, name, f"{uri}/{name}")


@pytest.fixture
def web(small_set: SmallSet) -> Iterator[str]:
    """The set's folder on a web server of this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(small_set.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_checkpoint_is_read_from_the_web_once(small_set: SmallSet, web: str) -> None:
    cache = small_set.root / "cache"
    given = {"checkpoint": f"{web}/epoch_0.pth", "cache_dir": str(cache)}
    answer = do_job("extract", small_set.job(**given))
    assert (answer["videos"], answer["backbone"]) == (4, "tiny")
    here = do_job("extract", small_set.job(out=str(small_set.root / "here.h5")))
    with h5py.File(answer["out"]) as ours, h5py.File(here["out"]) as theirs:
        assert all((ours[name][()] == theirs[name][()]).all() for name in theirs)
    assert len(list(cache.glob("*-epoch_0.pth"))) == 1


def test_a_checkpoint_that_would_run_code_is_refused(small_set: SmallSet) -> None:
    path = small_set.root / "evil.pth"
    torch.save({"model": {}, "args": _RunsCode(small_set.root / "it ran")}, path)
    with pytest.raises(ConfigError, match="could run code"):
        do_job("extract", small_set.job(checkpoint=str(path)))
    assert not (small_set.root / "it ran").exists()


class _RunsCode:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_parts_size_tells_its_shape(small_set: SmallSet) -> None:
    do_job("extract", small_set.job(shards=2, shard=0))
    (part,) = (small_set.root / "out" / "features.h5.parts" / "done").rglob("long.npy")
    assert part.stat().st_size == NPY_HEADER_BYTES + 4 * 512 * 4


def test_everything_can_lie_in_a_bucket(small_set: SmallSet, s3_server: S3Server) -> None:
    config = s3_server.config("features")
    store = open_store(config)
    for file in ("metadata.csv", "epoch_0.pth"):
        store.write(file, (small_set.root / file).read_bytes())
    for name in small_set.num_frames:
        store.write(f"videos/{name}", (small_set.root / "videos" / name).read_bytes())
    uri = config.uri
    job = small_set.job(
        checkpoint=f"{uri}/epoch_0.pth", videos=f"{uri}/videos/", metadata=f"{uri}/metadata.csv",
        out=f"{uri}/out/features.h5", cache_dir=str(small_set.root / "cache"), store=asdict(config),
    )  # fmt: skip
    answer = do_job("extract", {**job, "shards": 2, "shard": 0})
    assert answer["missing"] > 0
    answer = do_job("extract", {**job, "shards": 2, "shard": 1})
    assert (answer["videos"], answer["out"]) == (4, f"{uri}/out/features.h5")
    assert sorted(entry.key for entry in store.list("out/")) == ["out/features.h5", "out/features.h5.json"]
    store.download("out/features.h5", small_set.root / "from_s3.h5")
    local = do_job("extract", small_set.job())["out"]
    with h5py.File(small_set.root / "from_s3.h5") as ours, h5py.File(local) as theirs:
        assert {name: ours[name].shape for name in ours} == {name: theirs[name].shape for name in theirs}


@pytest.mark.parametrize("address", ["{}/videos", "file://{}/videos", "{}/videos/"])
def test_videos_in_a_folder_are_read_where_they_lie(small_set: SmallSet, tmp_path: Path, address: str) -> None:
    (tmp_path / "own" / "videos").mkdir(parents=True)
    (tmp_path / "own" / "videos" / "a.mp4").write_bytes(b"abc")
    job = from_dict(ExtractJob, small_set.job(videos=address.format(tmp_path / "own")))
    with open_videos(job, tmp_path / "cache").reading("a.mp4") as path:
        assert path == tmp_path / "own" / "videos" / "a.mp4"
    assert not (tmp_path / "cache").exists()


def test_videos_in_a_bucket_go_through_a_cache_of_the_jobs_size(
    small_set: SmallSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def cache(folder: Path, config: StoreConfig, *, limit_bytes: int) -> None:
        asked.update(folder=folder, uri=config.uri, mib=limit_bytes / 2**20)

    monkeypatch.setattr("tsp.extract.inputs.VideoCache", cache)
    monkeypatch.setattr("tsp.extract.inputs.clean", lambda cache: cache)
    open_videos(from_dict(ExtractJob, small_set.job(videos="s3://bucket/videos/", cache_mib=7)), tmp_path)
    assert asked == {"folder": tmp_path / "videos", "uri": "s3://bucket/videos", "mib": 7}


@pytest.mark.parametrize("name", ["nothing", "a file"])
def test_a_checkpoint_that_is_no_folder_is_no_run(small_set: SmallSet, tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").write_bytes(b"weights")
    job = from_dict(ExtractJob, small_set.job(checkpoint=str(tmp_path / name)))
    if name == "nothing":
        with pytest.raises(ConfigError, match="nothing"):
            fetch_checkpoint(job, tmp_path / "cache")
        return
    assert fetch_checkpoint(job, tmp_path / "cache").read_bytes() == b"weights"
