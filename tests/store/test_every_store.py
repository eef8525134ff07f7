"""What every store does alike: a folder, rclone's S3 server, moto's S3 server."""

import os
import pickle
from pathlib import Path

import pytest

from tests.stores import PART_BYTES
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError
from tsp.store.base import KeyExistsError, Store, sha256_of
from tsp.store.open import open_store


def test_what_is_written_is_read_back_and_a_second_write_replaces_it(store: Store) -> None:
    store.write("run/progress.json", b"one")
    store.write("run/progress.json", b"two")
    assert store.read("run/progress.json") == b"two"
    assert store.stat("run/progress.json").size_bytes == 3
    assert store.stat("run/progress.json").modified.tzinfo is not None


def test_reading_can_start_at_an_offset_and_past_the_end_gives_nothing(store: Store) -> None:
    store.write("log", b"line one\nline two\n")
    assert store.read("log", offset_bytes=9) == b"line two\n"
    assert store.read("log", offset_bytes=18) == b""
    assert store.read("log", offset_bytes=99) == b""


def test_the_beginning_of_an_object_can_be_read_alone(store: Store) -> None:
    content = os.urandom(3 << 20)
    store.write("video.mov", content)
    assert store.read_head("video.mov", 5) == content[:5]
    assert store.read_head("video.mov", (1 << 20) + 1) == content[: (1 << 20) + 1]
    assert store.read_head("video.mov", 4 << 20) == content
    with pytest.raises(MissingKeyError):
        store.read_head("not-there", 5)


def test_a_missing_key_is_told_from_other_troubles(store: Store) -> None:
    store.write("there", b"x")
    for ask in (store.read, store.stat):
        with pytest.raises(MissingKeyError, match="not-there does not exist"):
            ask("not-there")
    assert store.exists("there")
    assert not store.exists("not-there")
    assert not store.exists("there/below")
    store.delete("not-there")


def test_only_if_absent_refuses_to_replace(store: Store) -> None:
    store.write("run.json", b"first", only_if_absent=True)
    with pytest.raises(KeyExistsError, match="exists already"):
        store.write("run.json", b"second", only_if_absent=True)
    assert store.read("run.json") == b"first"


def test_listing_follows_the_prefix_and_is_sorted(store: Store) -> None:
    for key in ("b/epoch_1.pth", "b/epoch_10.pth", "b/logs/attempt-1/rank-0.log", "a/run.json", "ba/x", "top"):
        store.write(key, key.encode())
    assert [entry.key for entry in store.list()] == sorted(
        ["a/run.json", "b/epoch_1.pth", "b/epoch_10.pth", "b/logs/attempt-1/rank-0.log", "ba/x", "top"]
    )
    assert [entry.key for entry in store.list("b/epoch_1")] == ["b/epoch_1.pth", "b/epoch_10.pth"]
    assert [entry.size_bytes for entry in store.list("a/")] == [len("a/run.json")]
    assert list(store.list("nothing/")) == []
    assert list(store.list_folders()) == ["a", "b", "ba"]
    assert list(store.list_folders("b")) == ["logs"]
    assert list(store.list_folders("b/logs/")) == ["attempt-1"]
    assert list(store.list_folders("nothing")) == []


def test_deleting_a_prefix_leaves_the_rest(store: Store) -> None:
    for key in ("run/a", "run/state/b", "runner/c"):
        store.write(key, b"x")
    store.delete_all("run/")
    assert [entry.key for entry in store.list()] == ["runner/c"]
    assert list(store.list_folders()) == ["runner"]


@pytest.mark.parametrize("size_bytes", [0, 1, PART_BYTES, 2 * PART_BYTES + 1])
def test_files_of_any_size_go_there_and_back(store: Store, tmp_path: Path, size_bytes: int) -> None:
    path, back = tmp_path / "file", tmp_path / "deep" / "back"
    path.write_bytes(os.urandom(size_bytes))
    seen: list[tuple[int, int]] = []
    store.upload("epoch_0.pth", path, sha256=sha256_of(path))
    store.download("epoch_0.pth", back, sha256=sha256_of(path), progress=lambda *done: seen.append(done))
    assert back.read_bytes() == path.read_bytes()
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1:] == ([(size_bytes, size_bytes)] if size_bytes else [])
    assert os.listdir(back.parent) == ["back"]


def test_an_upload_of_a_file_that_changed_is_refused_and_not_visible(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"what was meant")
    digest = sha256_of(path)
    path.write_bytes(b"what it became")
    with pytest.raises(StoreError, match="was expected"):
        store.upload("epoch_0.pth", path, sha256=digest)
    assert list(store.list()) == []


def test_a_damaged_object_is_never_given_the_name(store: Store, tmp_path: Path) -> None:
    store.write("epoch_0.pth", b"damaged")
    target = tmp_path / "best.pth"
    target.write_bytes(b"an older download")
    with pytest.raises(StoreError, match="is damaged: its SHA-256 is"):
        store.download("epoch_0.pth", target, sha256="0" * 64)
    assert target.read_bytes() == b"an older download"
    assert os.listdir(tmp_path) == ["best.pth"] or set(os.listdir(tmp_path)) == {"best.pth", "store"}


def test_keys_and_prefixes_cannot_leave_the_store(store: Store) -> None:
    for key in ("", "/etc/passwd", "../outside", "run/../../outside", "a/."):
        with pytest.raises(StoreError, match="is not a valid key"):
            store.read(key)
        with pytest.raises(StoreError, match="is not a valid key"):
            store.write(key, b"x")
    for ask in (store.list, store.list_folders):
        with pytest.raises(StoreError, match="is not a valid key prefix"):
            list(ask("../"))


def test_the_check_for_writing_leaves_nothing_behind(store: Store) -> None:
    store.check_writable()
    assert list(store.list()) == []


def test_a_store_survives_pickling_and_a_fork(store: Store) -> None:
    store.write("key", b"value")
    assert pickle.loads(pickle.dumps(store)).read("key") == b"value"
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read("key") == b"value" else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("abfs://bucket/x", "or a folder$"),
        ("wss://bucket/x", "or a folder$"),
        ("https://host/x", "or a folder; store.endpoint_url names the server"),
        ("http://host/x", "or a folder; store.endpoint_url names the server"),
        ("gs://bucket/x", "use s3://bucket/prefix, file:///folder or a folder"),
        ("s3:///prefix", "has no bucket"),
        ("s3://", "has no bucket"),
        ("file://", "not a file URI"),
        ("s3://bucket/a/../b", "remove empty parts"),
        ("s3://bucket//b", "remove empty parts"),
        ("s3://bucket/./b/", "remove empty parts"),
        ("file://host/folder", "not a file URI"),
    ],
)
def test_other_kinds_of_uris_are_refused(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_store(StoreConfig(uri=uri))


def test_file_uris_and_folders_name_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(StoreConfig(uri="my runs")).write("key", b"value")
    spelled = f"file://{tmp_path}/my%20runs"
    assert open_store(StoreConfig(uri=spelled)).read("key") == b"value"
    assert open_store(StoreConfig(uri=spelled)).uri == str(tmp_path / "my runs")
