"""``tspctl data download``: from a clone, since tests have no network."""

from pathlib import Path

import pytest

from tests.cli.conftest import Tspctl
from tsp.config import published_data
from tsp.config.published_data import PublishedFile

EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.fixture(autouse=True)
def _one_empty_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        published_data.PUBLISHED_DATA, "thumos14", (PublishedFile("data/thumos14/labels.json", EMPTY_BLOB),)
    )


def test_a_clone_becomes_a_data_folder(tspctl: Tspctl, tmp_path: Path) -> None:
    (tmp_path / "clone" / "data" / "thumos14").mkdir(parents=True)
    (tmp_path / "clone" / "data" / "thumos14" / "labels.json").touch()
    arguments = ("data", "download", "thumos14", str(tmp_path / "data"), "--from", str(tmp_path / "clone"))
    ended = tspctl(*arguments, "-o", "json")
    assert (ended.code, ended.err) == (0, "labels.json: downloaded\n")
    assert ended.json == [{"name": "labels.json", "state": "downloaded", "size_bytes": 0}]
    assert (tmp_path / "data" / "labels.json").read_bytes() == b""
    assert tspctl(*arguments).out.splitlines()[1].split() == ["labels.json", "there", "already", "0", "B"]


def test_what_is_missing_ends_with_the_stores_exit_code(tspctl: Tspctl, tmp_path: Path) -> None:
    ended = tspctl("data", "download", "thumos14", str(tmp_path / "data"), "--from", str(tmp_path))
    assert (ended.code, "lacks labels.json" in ended.err) == (5, True)
    assert tspctl("data", "download", "kinetics", str(tmp_path)).code == 2
