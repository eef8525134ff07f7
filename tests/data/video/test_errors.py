"""Messages about files that are no videos, from their first bytes, and about errors of libraries."""

import errno
import os

import pytest

from tests.data.video.rewritten import box
from tsp.data.video.errors import VideoError, hint, reading, reason_of, refuse_what_is_no_video
from tsp.errors import ConfigError

SEGMENT = " (it is a segment of a stream: join its initialisation segment and all segments into one file)"
NO_INDEX = " (its index, which MP4 and MOV often have at the end, is missing: was it copied whole?)"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (box(b"styp", b"msdh") + box(b"moof"), SEGMENT),
        (box(b"moof", b"x" * 50), SEGMENT),
        (box(b"sidx", b"x" * 50), SEGMENT),
        (box(b"ftyp", b"isom") + box(b"mdat", b"x" * 50), NO_INDEX),
        (box(b"ftyp", b"isom") + box(b"moov", b"x" * 50), ""),
        (box(b"free", b"isom") + box(b"mdat", b"x" * 50), ""),
        (b"\x93hello" * 20, ""),
    ],
)
def test_a_file_that_cannot_be_opened_is_told_by_its_first_box(tmp_path, data, text):
    (tmp_path / "a.mp4").write_bytes(data)
    assert hint(str(tmp_path / "a.mp4")) == text


def test_a_web_page_in_place_of_a_video_is_named_and_a_file_that_is_gone_is_not_an_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"<!DOCTYPE html><html><body>Sign in</body></html>")
    assert "page" in hint(str(tmp_path / "a.mp4")).lower()
    assert hint(str(tmp_path / "nowhere.mp4")) == ""


@pytest.mark.parametrize("name", ["concat", "hls", "dash", "sdp"])
def test_a_list_of_files_is_refused_and_so_is_a_picture(name):
    with pytest.raises(VideoError, match="a is a list of other files, not a video"):
        refuse_what_is_no_video("a", name)
    for picture in ("png_pipe", "image2", "ico"):
        with pytest.raises(VideoError, match="a is a picture, not a video"):
            refuse_what_is_no_video("a", picture)
    for video in ("mov,mp4,m4a", "matroska,webm", "pipe_of_something"):
        refuse_what_is_no_video("a", video)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EPERM, "Operation not permitted"), "the decoder gives no reason"),
        (OSError(errno.EPERM, "Operation not permitted", "a.mp4"), "Operation not permitted"),
        (OSError(errno.ENOENT, "No such file or directory", "a.mp4"), "No such file or directory"),
        (ValueError("odd"), "odd"),
        (MemoryError(), "MemoryError"),
        (EOFError(errno.EPIPE, "at its end"), os.strerror(errno.EPIPE)),
    ],
)
def test_reasons_are_texts_without_numbers_and_file_names(error, reason):
    if isinstance(error, EOFError):
        error.errno, error.strerror = error.args[0], os.strerror(error.args[0])
    assert reason_of(error) == reason


def test_what_libraries_raise_names_the_file_and_our_own_errors_pass():
    with pytest.raises(VideoError, match=r"^a\.mp4 cannot be read: odd$"), reading("a.mp4"):
        raise IndexError("odd")
    with pytest.raises(VideoError, match=r"^a\.mp4 cannot be cut: odd$"), reading("a.mp4", "cannot be cut"):
        raise EOFError("odd")
    with pytest.raises(ConfigError, match=r"^ours$"), reading("a.mp4"):
        raise ConfigError("ours")
