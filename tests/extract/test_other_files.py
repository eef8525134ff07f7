"""Features belong to the files they were made from: other files under the same names are not finished work."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.extract.conftest import SmallSet
from tests.extract.values import read_h5
from tests.jobs import do_job
from tests.s3_servers import S3Server
from tests.videos import Made, write_video
from tsp.errors import ConfigError
from tsp.store.open import open_store


@dataclass(frozen=True)
class Place:
    """Where the videos are, in a folder or a bucket."""

    small_set: SmallSet
    fields: dict[str, Any]
    put: Callable[[str, Path], None]

    def job(self, **changes: Any) -> dict[str, Any]:
        return self.small_set.job(**{**self.fields, **changes})


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, small_set: SmallSet, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "folder":

        def replace(name: str, path: Path) -> None:
            (small_set.root / "videos" / name).unlink(missing_ok=True)
            (small_set.root / "videos" / name).write_bytes(path.read_bytes())

        return Place(small_set, {}, replace)
    server: S3Server = request.getfixturevalue("s3_servers")("rclone")
    for variable, value in server.env().items():
        monkeypatch.setenv(variable, value)
    config = server.config("other-files")
    store = open_store(config)
    for name in small_set.num_frames:
        store.write(f"videos/{name}", (small_set.root / "videos" / name).read_bytes())
    cache = str(small_set.root / "cache")
    fields = {"videos": f"{config.uri}/videos", "store": asdict(config), "cache_dir": cache}
    return Place(small_set, fields, lambda name, path: store.write(f"videos/{name}", path.read_bytes()))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A video of other content, as long as long.mp4."""
    return write_video(tmp_path / "drawn.mp4", Made(num_frames=130, width=192, height=128, noise=9))


def of_one_size(first: Path, other: Path) -> list[Path]:
    """Both videos as files of the same size."""
    contents = [first.read_bytes(), other.read_bytes()]
    size_bytes = max(map(len, contents)) + 8
    names = [other.with_name("padded-0.mp4"), other.with_name("padded-1.mp4")]
    for path, content in zip(names, contents, strict=True):
        num_free = size_bytes - len(content)
        path.write_bytes(content + num_free.to_bytes(4, "big") + b"free" + bytes(num_free - 8))
    return names


@pytest.mark.parametrize("form", ["h5", "npy"])
def test_an_output_is_finished_only_for_the_files_it_was_made_from(place: Place, other: Path, form: str) -> None:
    job = place.job(format=form, out=str(place.small_set.root / ("f.h5" if form == "h5" else "f")))
    do_job("extract", job)
    assert do_job("extract", job)["videos"] == 4
    place.put("long.mp4", other)
    with pytest.raises(ConfigError, match=r"not from the files in .* \(1 of another size: long\): check --data"):
        do_job("extract", job)


def test_an_output_stays_finished_when_its_videos_are_gone_and_says_that_nothing_was_compared(
    small_set: SmallSet, caplog: pytest.LogCaptureFixture
) -> None:
    job = small_set.job()
    do_job("extract", job)
    for path in Path(job["videos"]).glob("*.mp4"):
        path.unlink()
    assert do_job("extract", job)["videos"] == 4
    assert f"not compared with the files in {job['videos']}: 4 not there: " in caplog.text


def test_another_folder_with_videos_of_the_same_names_is_not_what_was_extracted(
    small_set: SmallSet, tmp_path: Path, other: Path
) -> None:
    for kind, changes in (("extract", {}), ("gvf", {"out": str(tmp_path / "g.h5")})):
        do_job(kind, small_set.job(**changes))
        elsewhere = tmp_path / f"other-{kind}"
        elsewhere.mkdir()
        (elsewhere / "long.mp4").write_bytes(other.read_bytes())
        with pytest.raises(ConfigError, match=r"\(3 not there: middle, other, short; 1 of another size: long\)"):
            do_job(kind, small_set.job(videos=str(elsewhere), **changes))


def test_features_so_far_of_other_files_are_neither_mixed_in_nor_lost(place: Place, other: Path) -> None:
    do_job("extract", place.job(shards=2, shard=0))
    parts = place.small_set.root / "out" / "features.h5.parts"
    before = sorted(parts.rglob("*.npy"))
    assert any(part.name == "long.npy" for part in before)
    place.put("long.mp4", other)
    with pytest.raises(ConfigError, match=r"1 of another size: long.*delete what was made of them") as refused:
        do_job("extract", place.job())
    assert sorted(parts.rglob("*.npy")) == before
    # The cure that the message names.
    named = next(word for word in str(refused.value).replace(",", " ").split() if word.endswith("long.npy"))
    Path(named).unlink()
    fresh = place.job(out=str(place.small_set.root / "fresh.h5"))
    mixed, expected = (read_h5(do_job("extract", job)["out"]) for job in (place.job(), fresh))
    assert mixed.keys() == expected.keys()
    assert all((mixed[name] == expected[name]).all() for name in expected)


def test_a_cached_video_that_the_store_has_replaced_is_fetched_again(place: Place, other: Path) -> None:
    before = read_h5(do_job("extract", place.job())["out"])
    place.put("long.mp4", other)
    after = read_h5(do_job("extract", place.job(out=str(place.small_set.root / "again.h5")))["out"])
    assert (before["long"] != after["long"]).any()
    assert (before["middle"] == after["middle"]).all()


def test_a_cached_video_that_was_replaced_by_one_of_the_same_size_is_fetched_again(place: Place, other: Path) -> None:
    names = of_one_size(place.small_set.root / "videos" / "long.mp4", other)
    place.put("long.mp4", names[0])
    before = read_h5(do_job("extract", place.job())["out"])
    time.sleep(1.1)  # HEAD tells whole seconds
    place.put("long.mp4", names[1])
    after = read_h5(do_job("extract", place.job(out=str(place.small_set.root / "again.h5")))["out"])
    assert (before["long"] != after["long"]).any()
    assert (before["middle"] == after["middle"]).all()


@pytest.mark.parametrize("shard", [0, None])
def test_a_video_replaced_by_one_of_the_same_size_is_noticed_and_one_that_was_only_copied_is_not(
    place: Place, other: Path, shard: int | None
) -> None:
    """So far and finished."""
    first, second = of_one_size(place.small_set.root / "videos" / "long.mp4", other)
    place.put("long.mp4", first)
    do_job("extract", place.job() if shard is None else place.job(shards=2, shard=shard))
    pause_sec = 1.1 if place.fields else 0.01  # S3 tells whole seconds
    time.sleep(pause_sec)
    place.put("long.mp4", first)
    do_job("extract", place.job() if shard is None else place.job(shards=2, shard=shard))
    time.sleep(pause_sec)
    place.put("long.mp4", second)
    with pytest.raises(ConfigError, match=r"other files|not from the files") as refused:
        do_job("extract", place.job())
    assert "(1 of other content: long)" in str(refused.value)


def test_a_repaired_video_is_extracted_whatever_was_noted_of_the_broken_one(place: Place, other: Path) -> None:
    stub = other.with_name("stub.mp4")
    stub.write_bytes(other.read_bytes()[:400])
    place.put("long.mp4", stub)
    assert do_job("extract", place.job())["exit_code"] == 3
    place.put("long.mp4", other)
    answer = do_job("extract", place.job())
    assert (answer["exit_code"], answer["broken"], answer["videos"]) == (0, 0, 4)


def test_what_older_releases_left_is_taken_as_it_is(small_set: SmallSet, other: Path) -> None:
    """Their parts and reports have no sizes."""
    do_job("extract", small_set.job(shards=2, shard=0))
    parts = small_set.root / "out" / "features.h5.parts"
    for part in list(parts.rglob("*.npy")):
        part.rename(part.parent.parent / part.name)
    answer = do_job("extract", small_set.job())
    assert answer["videos"] == 4
    report = Path(f"{answer['out']}.json")
    facts = json.loads(report.read_text())
    assert set(facts["files"]) < set(facts["videos"])
    report.write_text(json.dumps({key: value for key, value in facts.items() if key != "files"}))
    (small_set.root / "videos" / "long.mp4").unlink()
    (small_set.root / "videos" / "long.mp4").write_bytes(other.read_bytes())
    assert do_job("extract", small_set.job())["videos"] == 4


def test_videos_that_were_removed_after_their_features_were_made_stop_no_extraction(small_set: SmallSet) -> None:
    done = do_job("extract", small_set.job(shards=2, shard=0))
    assert done["missing"] > 0
    (small_set.root / "videos" / "long.mp4").unlink()
    assert do_job("extract", small_set.job())["videos"] == 4


@pytest.mark.parametrize("form", ["h5", "npy"])
def test_parts_without_a_record_of_their_encoder_are_not_used(small_set: SmallSet, tmp_path: Path, form: str) -> None:
    """As a process leaves them that was killed while it removed them, or that another one overtook."""
    out = tmp_path / ("f.h5" if form == "h5" else "f")
    job = small_set.job(format=form, out=str(out), broken_videos="fail")
    do_job("extract", job)
    good = read_all(out)
    for path in (out, out.with_name(f"{out.name}.json")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name, array in good.items():
        for video in (small_set.root / "videos").glob(f"{name}.*"):
            part = tmp_path / f"{out.name}.parts" / "done" / str(video.stat().st_size) / f"{name}.npy"
            part.parent.mkdir(parents=True, exist_ok=True)
            np.save(part, array + 1)
    do_job("extract", job)
    again = read_all(out)
    assert again.keys() == good.keys()
    assert all(np.array_equal(again[name], good[name]) for name in good)
    assert not (tmp_path / f"{out.name}.parts").exists()


def read_all(out: Path) -> dict[str, np.ndarray]:
    if out.is_dir():
        return {path.stem: np.load(path) for path in out.glob("*.npy")}
    return read_h5(out)


@pytest.mark.parametrize(("form", "is_folder"), [("h5", True), ("npy", False)])
def test_an_output_of_the_other_kind_is_refused_before_anything_is_extracted(
    small_set: SmallSet, tmp_path: Path, form: str, is_folder: bool
) -> None:
    out = tmp_path / "out" / "features"
    out.parent.mkdir()
    out.mkdir() if is_folder else out.touch()
    with pytest.raises(ConfigError, match=rf"{out} is a (folder|file): give a (file|folder)"):
        do_job("extract", small_set.job(format=form, out=str(out)))
    assert os.listdir(out.parent) == ["features"]
