"""What is particular to a local folder: whole files or none, and what to do when it cannot be written."""

import errno
import os
import threading
from pathlib import Path

import pytest

from tsp.config.store import StoreConfig
from tsp.errors import StoreError
from tsp.store import local as local_store_module
from tsp.store.atomic import explain_os_error, is_unfinished, new_file
from tsp.store.base import KeyExistsError, Store, sha256_of
from tsp.store.open import open_store
from tsp.store.part import Part


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def local(folder: Path) -> Store:
    return open_store(StoreConfig(uri=str(folder)))


def failing(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_store_that_is_a_file_or_a_link_to_nothing_is_no_empty_store(local: Store, folder: Path) -> None:
    assert list(local.list_folders()) == []
    folder.symlink_to("/gone/disk")
    with pytest.raises(StoreError, match="is a link to /gone/disk, which does not exist"):
        local.list_folders()
    folder.unlink()
    folder.touch()
    with pytest.raises(StoreError, match="is not a folder"):
        local.list_folders()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left for .*epoch_0.pth: free some"),
        (errno.EDQUOT, "no space left"),
        (errno.EROFS, "read-only file system"),
        (errno.EACCES, "permission denied .* may not write"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_write_that_fails_says_what_to_do_and_leaves_the_old_object(
    local: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = tmp_path / "new"
    path.write_bytes(b"new")
    local.write("epoch_0.pth", b"old")
    monkeypatch.setattr(local_store_module.os, "fsync", failing(number))
    with pytest.raises(StoreError, match=message) as caught:
        local.write("epoch_0.pth", b"new")
    assert str(folder) in str(caught.value)
    with pytest.raises(StoreError, match=message):
        local.upload("epoch_0.pth", path, sha256=sha256_of(path))
    assert local.read("epoch_0.pth") == b"old"
    assert os.listdir(folder) == ["epoch_0.pth"]


def test_a_full_disk_during_a_download_says_so(local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write("epoch_0.pth", b"x" * 100)

    def write(self: Part, data: bytes) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(data)

    monkeypatch.setattr(Part, "write", write)
    with pytest.raises(StoreError, match=r"no space left for .*best\.pth"):
        local.download("epoch_0.pth", tmp_path / "best.pth")
    assert not (tmp_path / "best.pth").exists()


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a folder")
    store = open_store(StoreConfig(uri=str(tmp_path / "notes.txt" / "runs")))
    with pytest.raises(StoreError, match=r"notes\.txt is not a folder; create the folder, or choose another one"):
        store.check_writable()
    assert not store.exists("run.json")


def test_a_place_where_no_folder_can_be_made_is_named() -> None:
    with pytest.raises(StoreError, match=r"cannot use /proc/runs/x|permission denied for /proc/runs/x"):
        open_store(StoreConfig(uri="/proc/runs")).write("x", b"")


def test_readers_see_whole_objects_while_they_are_replaced(local: Store) -> None:
    sizes = (10, 300_000)
    local.write("progress.json", b"0" * sizes[0])
    done = threading.Event()

    def replace() -> None:
        for number in range(60):
            local.write("progress.json", bytes([48 + number % 10]) * sizes[number % 2])
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        data = local.read("progress.json")
        assert len(data) in sizes
        assert len(set(data)) == 1
        assert [entry.key for entry in local.list()] == ["progress.json"]
    writer.join()


def test_only_one_of_many_writers_creates_a_key(local: Store) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        try:
            local.write("run.json", str(number).encode(), only_if_absent=True)
        except KeyExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert local.read("run.json") == str(won[0]).encode()


def test_without_hard_links_a_key_is_still_created_once(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_store_module.os, "link", failing(errno.EPERM))
    local.write("run.json", b"first", only_if_absent=True)
    with pytest.raises(KeyExistsError):
        local.write("run.json", b"second", only_if_absent=True)
    assert local.read("run.json") == b"first"


def test_what_a_killed_writer_left_is_not_listed_and_goes_with_the_run(local: Store, folder: Path) -> None:
    local.write("run/run.json", b"x")
    (folder / "run" / ".epoch_0.pth.0badcafe.tmp").write_bytes(b"half")
    assert [entry.key for entry in local.list("run/")] == ["run/run.json"]
    local.delete_all("run/")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("named", [".", "~", None])
def test_what_fails_with_another_file_while_one_is_written_is_not_told_of_this_one(tmp_path, named) -> None:
    with pytest.raises(OSError, match="other") as caught, new_file(tmp_path / "a"):
        raise OSError(errno.EIO, "other", named)
    assert not isinstance(caught.value, StoreError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "unfinished"),
    [(".a.0.tmp", True), (".a.0.part", True), (".a", False), ("a.tmp", False), ("a.part", False), (".tmp", True)],
)
def test_what_is_still_written_is_hidden_and_says_so(name: str, unfinished: bool) -> None:
    assert is_unfinished(name) is unfinished


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left for"),
        (errno.EDQUOT, "no space left for"),
        (errno.EROFS, "is on a read-only file system"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EMFILE, "many open files"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EIO, "nput/output error"),
        (errno.EISDIR, "it is a folder"),
    ],
)
def test_each_error_of_the_disk_is_told_in_its_own_words(tmp_path: Path, number: int, words: str) -> None:
    said = str(explain_os_error(OSError(number, os.strerror(number)), tmp_path / "a" / "b"))
    assert words in said
    others = {"no space left", "read-only file system", "permission denied"} - {words.split(" for")[0].split("a ")[-1]}
    assert not any(other in said for other in others)


def test_where_a_path_ends_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    missing = OSError(errno.ENOENT, "x")
    for path, words in {
        tmp_path / "a" / "b": f"{tmp_path} is where the path ends",
        tmp_path / "file" / "b": f"{tmp_path / 'file'} is not a folder",
        tmp_path / "link" / "b": f"{tmp_path / 'link'} is a link to nowhere, which does not exist",
    }.items():
        assert words in str(explain_os_error(missing, path))
