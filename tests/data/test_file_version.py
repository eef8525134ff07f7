"""A file is the same while its size and either its time or its content are."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tsp.data.file_version import FileVersion, tag_of
from tsp.store.base import Entry


@pytest.mark.parametrize(
    ("before", "now", "is_same"),
    [
        ("9-5-aa", "9-5-aa", True),
        ("9-5-aa", "9-6-aa", True),
        ("9-5-aa", "9-5-", True),
        ("9-5-aa", "9-5-bb", True),
        ("9-5-aa", "9-6-bb", False),
        ("9-5-aa", "9-6-", False),
        ("9-5-", "9-6-", False),
        ("9-5-aa", "8-5-aa", False),
        ("9", "9-6-bb", True),
        ("9", "8-6-bb", False),
    ],
)
def test_what_counts_as_the_same_file(before: str, now: str, is_same: bool) -> None:
    one, other = FileVersion.parse(before), FileVersion.parse(now)
    assert one is not None
    assert other is not None
    assert one.may_be(other) is other.may_be(one) is is_same
    assert FileVersion.parse(str(one)) == one


@pytest.mark.parametrize("text", ["", "a", "9-", "9-5", "9-5-xy", "-5-aa", "9-5-aa-1"])
def test_another_text_is_no_version(text: str) -> None:
    assert FileVersion.parse(text) is None


@pytest.mark.parametrize("size_bytes", [1, 65_536, 65_537, 131_072, 300_000])
@pytest.mark.parametrize("at", [0, -1])
def test_both_ends_of_a_file_are_in_its_tag(tmp_path: Path, size_bytes: int, at: int) -> None:
    content = bytearray(size_bytes)
    (tmp_path / "one").write_bytes(content)
    content[at] = 1
    (tmp_path / "other").write_bytes(content)
    assert len({tag_of(tmp_path / "one"), tag_of(tmp_path / "other")}) == 2


def test_an_object_is_told_by_its_etag() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    versions = [FileVersion.of_entry(Entry("k", 9, moment, etag)) for etag in ('"a"', "a", "b", "")]
    assert versions[0] == versions[1]
    assert len({version.tag for version in versions}) == 3
    assert versions[3].tag == ""
