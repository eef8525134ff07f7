"""A file of another kind than its name says is named as what it is, by every reader."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clips import read_clip
from tsp.data.features import GvfFile
from tsp.data.foreign_files import what_begins
from tsp.data.ground_truth import read_ground_truth
from tsp.data.label_map import load_label_map
from tsp.data.tables import read_metadata
from tsp.errors import DataError
from tsp.prepare.annotations import read_activitynet


def _zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "filename")


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"filename,fps\n")), "compressed by gzip: unpack it"),
    "zip": (_zipped, "ZIP archive or an Excel workbook"),
    "web page": (lambda path: path.write_text("\n<!DOCTYPE html><html>Sign in</html>"), "a web page"),
    "store": (
        lambda path: path.write_text('<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>'),
        "a store's error message",
    ),
    "git lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "run 'git lfs pull'",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(4096)), "it begins with zeros"),
    "playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:3,\na.ts\n"), "a list of other files"),
}
READERS: dict[str, Callable[[Path], object]] = {
    "metadata": read_metadata,
    "ground truth": lambda path: read_ground_truth(path, {}),
    "label map": load_label_map,
    "annotations": read_activitynet,
    "features": lambda path: GvfFile(path).load(["a"]),
    "video": lambda path: read_clip(path, 0.0),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("write", "what"), FOREIGN.values(), ids=FOREIGN)
def test_what_a_file_really_is_is_said_by_every_reader(
    tmp_path: Path, write: Callable[[Path], object], what: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "given"
    write(path)
    with pytest.raises(DataError, match=what) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "head", [b"", b"filename,fps\n", b'{"database": {}}', b'["a"]', b"\xef\xbb\xbffilename", b"\0" * 40]
)
def test_nothing_is_said_of_what_may_be_right(head: bytes) -> None:
    assert what_begins(head) == ""
