"""Files that appear whole or not at all: their names meanwhile, and what is said when the disk refuses."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tsp.data.video.encode import write_video
from tsp.errors import StoreError
from tsp.store.atomic import explain_os_error, new_file, remove_abandoned, write_atomically
from tsp.store.local import LocalStore


def test_a_file_has_a_hidden_name_beside_its_own_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with new_file(path) as temp:
        assert temp.parent == path.parent
        assert (temp.name[:7], temp.name[-4:]) == (".a.txt.", ".tmp")
        temp.write_text("x")
        assert not path.exists()
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_hidden_name_of_the_longest_name_is_no_longer_than_a_name_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 155 + "y" * 100)
    with new_file(path) as temp:
        assert temp.name.startswith("." + "y" * 100 + ".")
        temp.touch()
    assert path.exists()


@pytest.mark.parametrize("only_if_absent", [False, True])
def test_a_folder_in_which_a_file_is_in_the_way_is_a_problem_of_the_folder(
    tmp_path: Path, only_if_absent: bool
) -> None:
    """And not the file that exists already, which is something else."""
    (tmp_path / "taken").touch()
    with pytest.raises(StoreError, match="taken is not a folder"):
        write_atomically(tmp_path / "taken" / "a", b"x", only_if_absent=only_if_absent)


def test_a_file_is_replaced_unless_it_must_be_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for text in ("one", "two"):
        write_atomically(path, text)
    with pytest.raises(FileExistsError):
        write_atomically(path, "three", only_if_absent=True)
    assert path.read_text() == "two"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_another_process_makes_at_the_same_moment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsp.store.atomic.os.path.isdir", lambda path: False)
    for text in ("one", "two"):
        with new_file(tmp_path / "a") as temp:
            temp.write_text(text)
    assert (tmp_path / "a").read_text() == "two"


def test_a_link_to_a_file_is_no_folder_and_is_not_called_broken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    said = str(explain_os_error(OSError(errno.ENOTDIR, "x"), tmp_path / "link" / "b"))
    assert f"{tmp_path / 'link'} is not a folder" in said


@pytest.mark.parametrize(("sync", "synced"), [(True, 2), (False, 0)])
def test_what_can_be_fetched_again_need_not_be_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, synced: int
) -> None:
    done: list[int] = []
    monkeypatch.setattr("tsp.store.atomic.os.fsync", done.append)
    with new_file(tmp_path / "a", sync=sync) as temp:
        temp.touch()
    assert len(done) == synced


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "not here")
        real(handle)

    monkeypatch.setattr("tsp.store.atomic.os.fsync", fsync)
    write_atomically(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_whichever_call_meets_it(tmp_path: Path, number: int) -> None:
    with pytest.raises(StoreError, match=f"no space left for {tmp_path / 'a'}"), new_file(tmp_path / "a"):
        raise OSError(number, "full")


def test_a_failure_to_write_the_file_itself_is_told_of_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"cannot use {tmp_path / 'a'}: odd"), new_file(tmp_path / "a") as temp:
        raise OSError(errno.EIO, "odd", "".join(str(temp)))


def test_an_error_without_words_is_told_by_what_it_is(tmp_path: Path) -> None:
    assert str(explain_os_error(OSError("library says so"), tmp_path)).endswith(
        f"cannot use {tmp_path}: library says so"
    )
    said = str(explain_os_error(OSError(errno.EIO, "odd", "elsewhere"), tmp_path))
    assert said == f"cannot use {tmp_path}: odd"


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "no space left for {}: "), (errno.EISDIR, "cannot use {}: it is a folder; ")]
)
def test_an_error_of_an_unfinished_file_names_the_result(tmp_path: Path, number: int, said: str) -> None:
    """A writer of its own, which gets such a name from another, tells of it."""
    with pytest.raises(StoreError) as error, new_file(tmp_path / "a.b.mp4") as temp, new_file(temp):
        raise OSError(number, "odd", str(temp))
    assert str(error.value).startswith(said.format(tmp_path / "a.b.mp4"))


WRITER = """
import sys
from pathlib import Path
from tsp.store.atomic import new_file
with new_file(Path(sys.argv[1])) as temp:
    temp.write_bytes(b"half")
    print(flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "sub" / "a.mp4")]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    foreign = tmp_path / "sub" / ".of-another-program.tmp"
    foreign.touch()
    os.utime(foreign, (0, 0))
    assert len(os.listdir(tmp_path / "sub")) == 3
    remove_abandoned(tmp_path, below=True)
    assert len(os.listdir(tmp_path / "sub")) == 3
    for writer in writers:
        writer.kill()
        writer.communicate()
    with new_file(tmp_path / "sub" / "b.mp4") as mine:
        mine.touch()
        remove_abandoned(tmp_path)  # only that folder itself
        assert len(os.listdir(tmp_path / "sub")) == 4
        remove_abandoned(tmp_path, below=True)
        assert sorted(os.listdir(tmp_path / "sub")) == sorted([foreign.name, mine.name])


def test_any_name_that_a_file_may_have_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u6620" * 85, "\U0001f3a5" * 63):
        write_atomically(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("why", ["removed", "a file"])
def test_a_folder_that_cannot_be_written_to_is_explained_also_by_libraries_that_name_no_file(
    tmp_path: Path, why: str
) -> None:
    folder = tmp_path / "folder"

    def frames() -> Iterator[np.ndarray]:
        folder.rmdir()
        if why == "a file":
            folder.touch()
        yield np.zeros((64, 64, 3), np.uint8)

    folder.mkdir()
    with pytest.raises(StoreError, match=f"^cannot use {folder}/a.mp4: .*; create the folder, or choose another one"):
        write_video(folder / "a.mp4", frames())


def by_rename(path: Path) -> None:
    write_atomically(path, b"new")


def by_download(path: Path) -> None:
    path.parent.joinpath("source").write_bytes(b"new")
    LocalStore(path.parent).download("source", path)


@pytest.mark.parametrize("write", [by_rename, by_download])
@pytest.mark.parametrize("there", [True, False])
def test_an_output_that_is_a_link_is_written_where_it_leads(
    tmp_path: Path, write: Callable[[Path], None], there: bool
) -> None:
    """As a user makes it for outputs that belong on a larger disk."""
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "out", tmp_path / "disk" / "out"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(target)
    write(link)
    assert (link.is_symlink(), target.read_bytes()) == (True, b"new")
    assert os.listdir(tmp_path / "disk") == ["out"]


@pytest.mark.parametrize("write", [by_rename, by_download])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe"])
def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path: Path, write: Callable[[Path], None], kind: str) -> None:
    """Root's ``--out /dev/null`` would leave a file there."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    with pytest.raises(StoreError, match="/pipe: it is a pipe or device; give the name of a file"):
        write(pipe if kind == "pipe" else tmp_path / "link")
    assert pipe.is_fifo()


def test_a_link_to_a_disk_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    with pytest.raises(
        StoreError, match=f"it is a link to {tmp_path}/disk/out, and there is no folder {tmp_path}/disk"
    ):
        write_atomically(tmp_path / "out", b"new")
    assert os.listdir(tmp_path) == ["out"]
