"""Parts of a file on their way to S3: whole, in order, and not written over while they are sent."""

import base64
import hashlib
import io
from pathlib import Path

import pytest

from tsp.errors import StoreError
from tsp.store.s3 import upload
from tsp.store.s3.upload import (
    PARALLEL_PARTS,
    Sent,
    _check_digest,
    _fill,
    _md5_of_file,
    _parts_of,
    content_md5,
    put_file,
)

CONTENT = bytes(range(256))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(CONTENT)
    return found


@pytest.mark.parametrize("part_bytes", [1, 10, 100, 128, 255, 256, 300])
def test_parts_are_as_long_as_asked_but_the_last_and_make_the_whole(path: Path, part_bytes: int) -> None:
    parts = [bytes(part) for part in _parts_of(path, part_bytes)]
    assert b"".join(parts) == CONTENT
    assert {len(part) for part in parts[:-1]} <= {part_bytes}
    assert len(parts) == -(-256 // part_bytes)


def test_a_part_stays_what_it_is_while_others_are_read_that_may_be_on_their_way_with_it(path: Path) -> None:
    parts = _parts_of(path, 10)
    first = next(parts)
    for _ in range(PARALLEL_PARTS):
        next(parts)
    assert bytes(first) == CONTENT[:10]


class Dripping(io.RawIOBase):
    """Gives three bytes at most by each read."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def readinto(self, buffer) -> int:
        given, self.left = self.left[: min(3, len(buffer))], self.left[min(3, len(buffer)) :]
        buffer[: len(given)] = given
        return len(given)


@pytest.mark.parametrize(("size_bytes", "filled"), [(0, 0), (2, 2), (7, 7), (8, 8), (20, 8)])
def test_a_part_is_filled_whatever_a_single_read_gives(size_bytes: int, filled: int) -> None:
    buffer = memoryview(bytearray(8))
    assert _fill(Dripping(CONTENT[1 : size_bytes + 1]), buffer) == filled
    assert bytes(buffer[:filled]) == CONTENT[1 : filled + 1]


def test_a_file_that_changed_has_no_md5_and_is_refused(path: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert _md5_of_file(path, sha256) == hashlib.md5(CONTENT).hexdigest()
    assert _md5_of_file(path, "0" * 64) is None
    assert _md5_of_file(tmp_path / "gone", sha256) is None
    _check_digest(path, sha256, sha256)
    with pytest.raises(StoreError, match=f"has SHA-256 {sha256}, but 00 was expected: it changed in the meantime"):
        _check_digest(path, sha256, "00")


def test_the_checksum_of_a_body_is_written_as_the_header_wants_it() -> None:
    md5 = hashlib.md5(b"body").digest()
    assert base64.b64decode(content_md5(md5)) == md5


MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("num_parts", "etag", "is_proof"),
    [
        (1, MD5, True),
        (1, f'"{MD5.upper()}"', True),
        (1, "0" * 32, False),
        (1, "", False),
        (2, "of-the-parts-2", True),
        (2, MD5, True),
        (2, "0" * 32, False),
        (2, f"{MD5}-2", False),
    ],
)
def test_an_etag_proves_what_a_server_holds_by_the_md5_of_the_parts_or_of_the_whole(path, num_parts, etag, is_proof):
    of_parts = MD5 if num_parts == 1 else "of-the-parts-2"
    sent = Sent(path, 256, hashlib.sha256(CONTENT).hexdigest(), of_parts, num_parts)
    assert sent.is_etag(etag) is is_proof


@pytest.mark.parametrize(
    ("part_bytes", "most_parts", "in_parts_of"),
    [(300, 10, None), (256, 10, None), (255, 10, 255), (100, 10, 100), (10, 10, 26), (10, 26, 10), (10, 2, 128)],
)
def test_a_file_that_is_larger_than_a_part_goes_in_parts_and_no_more_than_s3_takes(
    path, monkeypatch, part_bytes, most_parts, in_parts_of
):
    monkeypatch.setattr(upload, "MAX_PARTS", most_parts)
    monkeypatch.setattr(upload, "_put_parts", lambda bucket, key, path, sha256, part_bytes, address: part_bytes)
    monkeypatch.setattr(upload, "_put_small", lambda *_: MD5)
    sent = put_file(
        None, "k", path, sha256=hashlib.sha256(CONTENT).hexdigest(), part_bytes=part_bytes, address="s3://b/k"
    )
    if in_parts_of is None:
        assert (sent.num_parts, sent.etag, sent.size_bytes, sent.answered) == (1, MD5, 256, MD5)
    else:
        assert sent == in_parts_of
