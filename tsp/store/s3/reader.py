"""Reading an object of a bucket: completely, a range, its metadata, or from any byte on."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

from tsp.errors import MissingKeyError, StoreError, StoreUnreachableError
from tsp.store.base import Entry
from tsp.store.s3.bodies import steadily
from tsp.store.s3.client import AnsweredError
from tsp.store.s3.errors import not_s3
from tsp.store.s3.failures import http_time
from tsp.store.s3.prefix import Prefix
from tsp.store.s3.wire import Answer
from tsp.store.transfer import BLOCK_BYTES, ChangedSourceError, Source, persistent_chunks


class Reader:
    """Reads the objects below a prefix."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix, self._bucket = prefix, prefix.bucket

    def read(self, key: str, offset_bytes: int, size_bytes: int | None) -> bytes:
        """As ``Store.read``."""
        wanted = _range(offset_bytes, size_bytes)
        answer = self._prefix.quick("GET", key, headers={"range": wanted} if wanted else {})
        if answer is not None and answer.status == 416:
            return b""
        if answer is not None:
            return _from_offset(answer, offset_bytes, size_bytes)

        def get() -> bytes:
            with contextlib.closing(self._get(key, offset_bytes, size_bytes)["Body"]) as body:
                data = b"".join(steadily(body))
            return data if size_bytes is None else data[:size_bytes]

        try:
            return self._bucket.call(
                get, address=self._prefix.address(key), doing="read", expect=("InvalidRange",), has_body=True
            )
        except AnsweredError:
            return b""

    def stat(self, key: str) -> Entry:
        """As ``Store.stat``."""
        answer = self._prefix.quick("HEAD", key)
        if answer is not None and {"last-modified", "content-length"} <= answer.headers.keys():
            size_bytes, modified = answer.headers["content-length"], answer.headers["last-modified"]
            return Entry(key, int(size_bytes), http_time(modified), answer.headers.get("etag", ""))
        head = self.head(key)
        if not {"LastModified", "ContentLength"} <= head.keys():
            raise not_s3(self._bucket.server, f" (it knows no time or size of {self._prefix.address(key)})")
        return Entry(key, head["ContentLength"], head["LastModified"], head.get("ETag", ""))

    def head(self, key: str) -> Any:
        """The answer to a HEAD, as boto3 gives it.

        Raises: MissingKeyError; StoreError if it is refused, with the reason that the answer to a GET tells.
        """
        try:
            return self._bucket.call(
                lambda: self._bucket.client.head_object(Bucket=self._bucket.name, Key=self._prefix.full(key)),
                address=self._prefix.address(key),
                doing="read",
            )
        except MissingKeyError:
            self._bucket.check_exists()
            raise
        except StoreUnreachableError:
            raise
        except StoreError:
            self._explain_head(key)
            raise

    def source(self, key: str, entry: Entry) -> Source:
        """An object as something to download: the version of that entry, or ChangedSourceError."""
        address = self._prefix.address(key)

        def chunks(offset_bytes: int) -> Iterator[bytes]:
            try:
                answer = self._bucket.call(
                    lambda: self._get(key, offset_bytes), address=address, doing="read", expect=("InvalidRange",)
                )
            except AnsweredError as error:
                raise ChangedSourceError from error
            with contextlib.closing(_body_of(answer, entry)) as body, self._bucket.breaking_off():
                yield from steadily(body)

        return Source(
            address=address,
            size_bytes=entry.size_bytes,
            version=entry.version or str(entry.modified),
            chunks=chunks,
            range=lambda offset_bytes, into: self._read_range(key, entry, offset_bytes, into),
        )

    def sha256_of(self, key: str) -> str:
        """SHA-256 of the stored object, which is read for it.

        Raises: ChangedSourceError.
        """
        digest = hashlib.sha256()
        for chunk in persistent_chunks(self.source(key, self.stat(key)), 0, retry=self._bucket.retry):
            digest.update(chunk)
        return digest.hexdigest()

    def _read_range(self, key: str, entry: Entry, offset_bytes: int, into: memoryview) -> None:
        """Raises: ChangedSourceError if the object has another version."""

        def get() -> None:
            with contextlib.closing(_body_of(self._get(key, offset_bytes, len(into)), entry)) as body:
                self._bucket.fill(into, steadily(body))

        answer = self._prefix.quick("GET", key, headers={"range": _range(offset_bytes, len(into))}, into=into)
        if answer is not None and "content-range" in answer.headers and len(answer.body) == len(into):
            _check_version(answer.headers.get("etag"), entry)
            return
        try:
            self._bucket.call(
                get, address=self._prefix.address(key), doing="read", expect=("InvalidRange",), has_body=True
            )
        except AnsweredError as error:
            raise ChangedSourceError from error

    def _get(self, key: str, offset_bytes: int, size_bytes: int | None = None) -> Any:
        """An answer whose body starts at an offset, even where the server ignores ranges."""
        text = _range(offset_bytes, size_bytes)
        wanted = {"Range": text} if text else {}
        answer: Any = self._bucket.client.get_object(
            Bucket=self._bucket.name,
            Key=self._prefix.full(key),
            **wanted,  # type: ignore[arg-type]
        )
        if offset_bytes and "ContentRange" not in answer:
            left = offset_bytes
            while left and (skipped := answer["Body"].read(min(left, BLOCK_BYTES))):
                left -= len(skipped)
        return answer

    def _explain_head(self, key: str) -> None:
        """Request one byte: the response to a HEAD has no body with the reason for a refusal.

        Raises: StoreError.
        """
        with contextlib.suppress(AnsweredError):
            self._bucket.call(
                lambda: self._get(key, 0, 1)["Body"].close(),
                address=self._prefix.address(key),
                doing="read",
                expect=("InvalidRange",),
            )


def _check_version(etag: str | None, entry: Entry) -> None:
    """Compared here, for not every server honours If-Match."""
    if entry.version and etag is not None and etag != entry.version:
        raise ChangedSourceError


def _body_of(answer: Any, entry: Entry) -> Any:
    try:
        _check_version(answer.get("ETag"), entry)
    except ChangedSourceError:
        answer["Body"].close()
        raise
    return answer["Body"]


def _range(offset_bytes: int, size_bytes: int | None) -> str:
    """The header's value; empty for all of an object."""
    if size_bytes is None:
        return f"bytes={offset_bytes}-" if offset_bytes else ""
    return f"bytes={offset_bytes}-{offset_bytes + size_bytes - 1}"


def _from_offset(answer: Answer, offset_bytes: int, size_bytes: int | None) -> bytes:
    """The requested bytes, also from a server that ignores ranges."""
    # Not by the status: some servers answer 200 to a range they honour.
    data = bytes(answer.body) if "content-range" in answer.headers else bytes(answer.body)[offset_bytes:]
    return data if size_bytes is None else data[:size_bytes]
