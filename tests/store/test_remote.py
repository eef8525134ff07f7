"""What every store that is no folder inherits: local paths while something is read or written, heads, and downloads."""

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tsp.errors import MissingKeyError, StoreError
from tsp.store import base, check, files
from tsp.store.base import Entry, Store, check_key, check_prefix, file_name_of, free_bytes, join_key, sha256_of
from tsp.store.local import LocalStore
from tsp.store.transfer import Source


class Remote(LocalStore):
    """A folder that is treated as a bucket; counts what is asked."""

    is_local = False
    reading, writing, delete_all = Store.reading, Store.writing, Store.delete_all

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.read_bytes = 0

    def read(self, key: str, *, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
        self.asked.append("read")
        return super().read(key, offset_bytes=offset_bytes, size_bytes=size_bytes)

    def stat(self, key: str) -> Entry:
        self.asked.append("stat")
        return super().stat(key)

    def _source(self, key: str, entry: Entry | None = None) -> Source:
        source = super()._source(key, entry)

        def chunks(offset_bytes: int) -> Iterator[bytes]:
            data = super(Remote, self).read(key, offset_bytes=offset_bytes)
            for at in range(0, len(data), 10):
                self.read_bytes += len(data[at : at + 10])
                yield data[at : at + 10]

        return Source(address=source.address, size_bytes=source.size_bytes, version=source.version, chunks=chunks)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "remote")


@pytest.mark.parametrize("key", ["a.mp4", "folder/deep/a.mp4"])
def test_an_object_is_read_and_written_as_a_local_file_of_its_name(remote: Remote, key: str) -> None:
    with remote.writing(key) as path:
        assert path.name == "a.mp4"
        path.write_bytes(b"video")
    assert not path.exists()
    with remote.reading(key) as path:
        assert (path.name, path.read_bytes()) == ("a.mp4", b"video")
        assert not path.is_relative_to(remote.root)
    assert not path.exists()


@pytest.mark.parametrize(("size_bytes", "fetched"), [(1, 10), (10, 10), (11, 20), (95, 95), (1000, 95)])
def test_of_a_head_no_more_is_fetched_than_is_wanted(remote: Remote, size_bytes: int, fetched: int) -> None:
    content = bytes(range(95))
    remote.write("a", content)
    assert remote.read_head("a", size_bytes) == content[:size_bytes]
    assert remote.read_bytes == fetched
    with remote.reading("a", head_bytes=size_bytes) as path:
        assert path.read_bytes() == content[:size_bytes]


def entry_of(remote: Remote, size_bytes: int) -> Entry:
    remote.write("a", b"x")
    with open(remote.local_path("a"), "wb") as file:
        file.truncate(size_bytes)
    found = LocalStore.stat(remote, "a")
    remote.asked.clear()
    return found


@pytest.mark.parametrize(("size_bytes", "at_once"), [(10, True), (1 << 20, True), ((1 << 20) + 1, False)])
def test_a_listed_object_of_up_to_a_mebibyte_is_read_by_one_request(
    remote: Remote, tmp_path: Path, size_bytes: int, at_once: bool
) -> None:
    entry, seen = entry_of(remote, size_bytes), list[tuple[int, int]]()
    remote.download("a", tmp_path / "back", entry=entry, progress=lambda *done: seen.append(done))
    assert (tmp_path / "back").stat().st_size == size_bytes
    assert ("read" in remote.asked) is at_once
    assert "stat" not in remote.asked, "what is known is not asked for"
    assert seen[-1] == (size_bytes, size_bytes)


def test_a_small_object_whose_digest_differs_is_read_again_and_then_refused(remote: Remote, tmp_path: Path) -> None:
    entry = entry_of(remote, 10)
    remote.download("a", tmp_path / "back", entry=entry, sha256=sha256_of(remote.local_path("a"))[:8])
    assert remote.asked == ["read"]
    with pytest.raises(StoreError):
        remote.download("a", tmp_path / "other", entry=entry, sha256="0" * 64)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("sync", "synced"), [(True, 2), (False, 0)])
def test_a_download_that_can_be_repeated_is_not_synced(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, synced: int
) -> None:
    entry, done = entry_of(remote, 10), list[int]()
    monkeypatch.setattr("tsp.store.atomic.os.fsync", done.append)
    remote.download("a", tmp_path / "back", entry=entry, sync=sync)
    assert len(done) == synced


def test_an_object_that_is_not_there_is_missing_and_nothing_more(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.write("a", b"x")
    assert (remote.exists("a"), remote.exists("b")) == (True, False)
    monkeypatch.setattr(LocalStore, "stat", lambda self, key: (_ for _ in ()).throw(StoreError("broken")))
    with pytest.raises(StoreError, match="broken"):
        remote.exists("a")


def test_what_can_be_deleted_is_deleted_before_the_first_failure_is_told(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("run/a", "run/b", "run/c", "runs"):
        remote.write(key, b"x")
    real = LocalStore.delete

    def delete(self: Store, key: str) -> None:
        if key == "run/a":
            raise StoreError("kept")
        real(self, key)

    monkeypatch.setattr(LocalStore, "delete", delete)
    with pytest.raises(StoreError, match="kept"):
        remote.delete_all("run/")
    assert [entry.key for entry in remote.list()] == ["run/a", "runs"]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"])
def test_a_key_that_is_no_path_inside_the_store_is_refused_and_has_a_harmless_file_name(key: str) -> None:
    with pytest.raises(StoreError, match="not a valid key"):
        check_key(key)
    check_key(file_name_of(key))


@pytest.mark.parametrize("key", ["a", "a/b.pth", "..a", "a..b/c.", "...", " "])
def test_other_keys_are_kept_as_they_are(key: str) -> None:
    check_key(key)
    check_prefix(key)
    assert file_name_of(key) == key


@pytest.mark.parametrize(
    ("prefix", "is_valid"), [("", True), ("a/", True), ("/a", False), ("a/../b", False), ("..", False)]
)
def test_a_prefix_stays_inside_the_store(prefix: str, is_valid: bool) -> None:
    if is_valid:
        check_prefix(prefix)
    else:
        with pytest.raises(StoreError, match="not a valid key prefix"):
            check_prefix(prefix)


def test_parts_of_keys_that_are_empty_are_left_out() -> None:
    assert (join_key("a", "", "b"), join_key("", ""), join_key("a")) == ("a/b", "", "a")


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.shutil, "disk_usage", {tmp_path: SimpleNamespace(free=7)}.__getitem__)
    assert free_bytes(LocalStore(tmp_path / "none" / "yet")) == 7
    nowhere = Remote(tmp_path)
    monkeypatch.setattr(Remote, "local_path", Store.local_path)
    assert free_bytes(nowhere) is None


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\0" + data, lambda data: b"\xff" * 2000])
def test_a_store_that_answers_with_other_bytes_is_not_reliable_and_is_left_clean(remote, monkeypatch, damage) -> None:
    assert check.check_round_trip(remote) == 1024
    monkeypatch.setattr(Remote, "read", lambda self, key: damage(LocalStore.read(self, key)))
    with pytest.raises(StoreError, match="the store is not reliable"):
        check.check_round_trip(remote)
    assert list(remote.list()) == []


@pytest.mark.parametrize(
    ("arguments", "code"), [(['{"uri": "STORE"}'], 0), (["no JSON"], 2), ([], 2), (["{}", "{}"], 2)]
)
def test_the_check_is_a_program_that_hears_when_it_is_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    heard: list[str] = []
    monkeypatch.setattr("tsp.signals.end_on_sigterm", lambda: heard.append("from the beginning"))
    monkeypatch.setattr("sys.argv", ["check", *(text.replace("STORE", str(tmp_path)) for text in arguments)])
    monkeypatch.delitem(sys.modules, "tsp.store.check")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("tsp.store.check", run_name="__main__")
    assert (ended.value.code, heard) == (code, ["from the beginning"])


def test_of_a_folder_elsewhere_the_files_of_a_kind_are_copied_and_one_here_is_used_where_it_is(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a.json", "deep/b.JSON", "c.txt", ".hidden.json"):
        remote.write(key, key.encode())
    monkeypatch.setattr(files, "open_folder", lambda address, settings: remote)
    with files.reading_folder("s3://bucket/labels", None, suffix=".json") as folder:
        found = {
            str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.*") if path.name != ".lock"
        }
    assert found == {"a.json": "a.json", "deep/b.JSON": "deep/b.JSON"}
    with files.reading_folder(str(tmp_path), None, suffix=".json") as folder:
        assert folder == tmp_path


def test_a_file_is_written_where_its_address_says(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    @contextmanager
    def noting(address: str) -> Iterator[None]:
        with files.writing(address, None) as path:
            path.write_text("x")
        yield

    monkeypatch.setattr(files, "open_folder", lambda address, settings: opened.append(address) or remote)
    with noting("s3://bucket/deep/table.csv"), noting(str(tmp_path / "table.csv")):
        pass
    assert opened == ["s3://bucket/deep"]
    assert (remote.root / "table.csv").read_text() == (tmp_path / "table.csv").read_text() == "x"


def test_missing_objects_of_a_remote_store_are_missing(remote: Remote) -> None:
    with pytest.raises(MissingKeyError):
        remote.read_head("none", 3)
