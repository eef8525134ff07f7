"""What tells whether a standardised file was made of the same source, in the same way."""

import hashlib
import json

import pytest

from tsp.config.jobs import StandardizeJob
from tsp.config.store import StoreConfig
from tsp.prepare.provenance import made_by
from tsp.store.open import open_store

MIB = 1 << 20


def made_of(folder, content, **options):
    (folder / "a.mp4").write_bytes(content)
    source = open_store(StoreConfig(uri=str(folder)))
    return json.loads(made_by(StandardizeJob(source=str(folder), dest="out", **options), source, "a.mp4"))


def test_a_source_is_told_by_its_name_its_size_and_its_first_mebibyte(tmp_path):
    content = bytes(range(256)) * (2 * MIB // 256)
    found = made_of(tmp_path, content)
    assert (found["source"], found["bytes"]) == ("a.mp4", 2 * MIB)
    # Written into files since the first release: another number would make them all anew.
    assert found["sha256_head"] == hashlib.sha256(content[:MIB]).hexdigest()[:16]


@pytest.mark.parametrize(("at", "is_seen"), [(0, True), (MIB - 1, True), (MIB, False)])
def test_a_change_within_the_first_mebibyte_is_seen(tmp_path, at, is_seen):
    content = bytearray(2 * MIB)
    before = made_of(tmp_path, content)
    content[at] = 1
    assert (made_of(tmp_path, content) != before) is is_seen


@pytest.mark.parametrize(
    "options", [{"fps": 25.0}, {"crf": 20}, {"max_height_px": 180}, {"keep_audio": True}, {"gop": "published"},
                {"salvage": True}],
)  # fmt: skip
def test_every_option_that_changes_the_file_is_written_down(tmp_path, options):
    ((name, value),) = options.items()
    assert made_of(tmp_path, b"x")[name] != made_of(tmp_path, b"x", **options)[name] == value
