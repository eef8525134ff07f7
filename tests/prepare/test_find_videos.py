"""Which files are taken for videos, and that nothing is left out without a word."""

import errno
import logging
import os
from pathlib import Path

import pytest

from tsp.errors import DataError
from tsp.prepare.find_videos import find_videos


@pytest.fixture
def folder(tmp_path):
    """A folder with everything that people have in one."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far/linked.mp4").write_bytes(b"12")
    videos = tmp_path / "videos"
    (videos / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.AVI", "notes.txt", "anim.gif", "bare", ".hidden.mp4", "a.train.mov"):
        (videos / name).write_bytes(b"1")
    (videos / "again").symlink_to(videos / "sub")
    (videos / "loop").symlink_to(videos)
    (videos / "far").symlink_to(tmp_path / "far")
    (videos / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(videos / "pipe.mp4")
    return videos


def test_links_are_followed_once_and_loops_end(folder):
    names = set(find_videos(str(folder))[1])
    assert {"a.mp4", "far/linked.mp4"} < names
    assert len(names) == 3  # the folder that two names lead to is entered by one of them
    assert {name.rpartition("/")[2] for name in names} == {"a.mp4", "linked.mp4", "b.AVI"}


def test_every_file_that_is_left_out_is_named_with_the_reason(folder, caplog):
    with caplog.at_level(logging.INFO):
        find_videos(str(folder))
    said = caplog.text
    for name, reason in {
        "notes.txt": "not a known video extension: .txt",
        "anim.gif": "not a known video extension: .gif",
        "bare": "not a known video extension: none",
        "gone.mp4": "a broken link",
        "pipe.mp4": "a pipe, socket or device",
        "loop": "a link to a folder that is also read directly",
        ".hidden.mp4": "hidden",
        "a.train.mov": "a training copy",
    }.items():
        assert any(name in line and reason in line for line in said.splitlines()), name


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError("the share is away"), "the share is away"),
    ],
)
def test_a_file_that_cannot_be_looked_at_is_left_out_with_the_systems_reason(
    folder, monkeypatch, caplog, error, reason
):
    real = Path.stat

    def looked_at(path, **options):
        if path.name == "a.mp4" and options.get("follow_symlinks", True):
            raise error
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", looked_at)
    assert "a.mp4" not in find_videos(str(folder))[1]
    assert f"1 file left out ({reason}): a.mp4" in caplog.text


def test_a_file_that_is_named_itself_is_taken_whatever_its_ending(folder):
    assert find_videos(str(folder / "bare"))[1] == {"bare": 1}


def test_a_name_that_no_table_can_hold_is_left_out_or_refused(folder, caplog):
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"1")
    assert len(find_videos(str(folder))[1]) == 3
    assert "1 file left out (the name is not UTF-8, so no table can hold it: rename it): caf\\udce9.mp4" in caplog.text
    with pytest.raises(DataError, match=r"caf\\udce9\.mp4': the name is not UTF-8"):
        find_videos(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4"))


def test_a_pipe_that_is_named_itself_is_refused_and_not_waited_for(folder):
    with pytest.raises(DataError, match=r"pipe\.mp4 is a pipe or device, not a file"):
        find_videos(str(folder / "pipe.mp4"))


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="contains no video files"):
        find_videos(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("gone.mp4", r"is a broken link \(to .*nowhere\.mp4\)"), ("self.mp4", "is a broken link"),
     ("no.mp4", "does not exist"), ("no/no.mp4", "does not exist")],
)  # fmt: skip
def test_what_is_not_there_is_refused_as_what_it_is(folder, name, reason):
    (folder / "self.mp4").symlink_to("self.mp4")
    with pytest.raises(DataError, match=reason):
        find_videos(str(folder / name))


@pytest.mark.parametrize(
    ("num_files", "said"),
    [
        (1, "1 file left out (not a known video extension: .txt; give the file itself to read it): 0.txt"),
        (5, "5 files left out (not a known video extension: .txt; give the file itself to read it): 0.txt, 1.txt, "
            "2.txt, 3.txt, 4.txt"),
        (6, "6 files left out (not a known video extension: .txt; give the file itself to read it): 0.txt, 1.txt, "
            "2.txt, 3.txt, 4.txt, ..."),
    ],
)  # fmt: skip
def test_of_many_files_that_are_left_out_the_first_five_are_named(tmp_path, caplog, num_files, said):
    for number in range(num_files):
        (tmp_path / f"{number}.txt").touch()
    (tmp_path / "a.mp4").write_bytes(b"123")
    assert find_videos(str(tmp_path))[1] == {"a.mp4": 3}
    assert caplog.messages == [f"{tmp_path}: {said}"]


def test_what_leaves_out_most_is_said_first_and_what_is_expected_only_on_request(tmp_path, caplog):
    for name in ("a.mp4", "b.txt", "c.gif", "d.gif", ".e.mp4", "f.train.mov"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.INFO):
        find_videos(str(tmp_path))
    endings = [message.rpartition(": ")[2] for message in caplog.messages]
    assert endings[0] == "c.gif, d.gif"
    levels = {message: record.levelno for message, record in zip(endings, caplog.records, strict=True)}
    assert levels == {
        "c.gif, d.gif": logging.WARNING,
        "b.txt": logging.WARNING,
        ".e.mp4": logging.INFO,
        "f.train.mov": logging.INFO,
    }
