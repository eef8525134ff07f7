"""A store in a bucket of an S3-compatible server."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tsp.config.run import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError, StoreUnreachableError
from tsp.store.base import Entry, KeyExistsError, Store, check_key, check_prefix
from tsp.store.retry import RetryPolicy
from tsp.store.s3.bodies import steadily
from tsp.store.s3.claims import only_writer
from tsp.store.s3.client import AnsweredError, Bucket
from tsp.store.s3.errors import not_s3
from tsp.store.s3.failures import http_time
from tsp.store.s3.list_page import parse_page
from tsp.store.s3.upload import DamagedPartError, Sent, content_md5, md5_of, put_file
from tsp.store.s3.wire import Answer
from tsp.store.transfer import BLOCK_BYTES, ChangedSourceError, Source, persistent_chunks

UPLOAD_TRIES = 3
_LISTED = {"IsTruncated", "Contents", "CommonPrefixes", "Name", "KeyCount"}
"""Of a page, one of these is there, however empty it is."""
_LIST_QUERY = {"Prefix": "prefix", "Delimiter": "delimiter", "ContinuationToken": "continuation-token"}


class S3Store(Store):
    """Keys live below ``s3://bucket/prefix``."""

    def __init__(self, config: StoreConfig, *, retry: RetryPolicy, part_bytes: int) -> None:
        bucket, _, prefix = config.uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError(f"store {config.uri!r} names no bucket: it takes s3://bucket/prefix")
        self.config, self.retry, self.part_bytes = config, retry, part_bytes
        self.prefix = prefix.rstrip("/")
        if self.prefix and any(part in ("", ".", "..") for part in self.prefix.split("/")):
            raise ConfigError(
                f"store {config.uri!r}: leave out empty parts, '.' and '..', which clients and servers change"
            )
        self.bucket = Bucket(bucket, config, retry)
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")

    def __reduce__(self) -> Any:
        return _rebuild, (self.config, self.retry, self.part_bytes)

    def read(self, key: str, *, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
        wanted = _range(offset_bytes, size_bytes)
        answer = self._quick("GET", key, headers={"range": wanted} if wanted else {})
        if answer is not None and answer.status == 416:
            return b""
        if answer is not None:
            return _from_offset(answer, offset_bytes, size_bytes)

        def get() -> bytes:
            with contextlib.closing(self._get(key, offset_bytes, size_bytes)["Body"]) as body:
                data = b"".join(steadily(body))
            return data if size_bytes is None else data[:size_bytes]

        try:
            return self.bucket.call(
                get, address=self.address(key), doing="read", expect=("InvalidRange",), has_body=True
            )
        except AnsweredError:
            return b""

    def write(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        check_key(key)
        md5 = content_md5(md5_of(data))
        if not only_if_absent:
            answer = self._quick("PUT", key, headers={"content-md5": md5}, body=data)
            if answer is None or "etag" not in answer.headers:
                self._write(key, data, md5)
            return
        if self.exists(key):
            raise KeyExistsError(f"{self.address(key)} exists already")
        if not self._honours_conditions():
            with only_writer(self, key):
                self.write(key, data)
        # Our own first try may have arrived although its answer was lost.
        elif not self._write_if_absent(key, data) and self.read(key) != data:
            raise KeyExistsError(f"{self.address(key)} exists already")

    def _write_if_absent(self, key: str, data: bytes) -> bool:
        """Whether the server did so; False also where it knows no conditions."""
        try:
            self._write(key, data, content_md5(md5_of(data)), IfNoneMatch="*")
        except AnsweredError:
            return False
        return True

    def _honours_conditions(self) -> bool:
        """Whether the server refuses to replace an object that must not exist: tried once, on an object of its own."""
        if self.bucket.honours_conditions is None:
            probe = f".tspctl-condition-{uuid.uuid4().hex}"
            self.write(probe, b"")
            self.bucket.honours_conditions = self._refuses_to_replace(probe)
            self.delete(probe)
        return self.bucket.honours_conditions

    def _refuses_to_replace(self, key: str) -> bool:
        try:
            self._write(key, b"", content_md5(md5_of(b"")), IfNoneMatch="*")
        except AnsweredError as error:
            return error.code != "NotImplemented"
        return False

    def _write(self, key: str, data: bytes, md5: str, **condition: str) -> None:
        answer = self.bucket.call(
            lambda: self.bucket.client.put_object(
                Bucket=self.bucket.name,
                Key=self._full(key),
                Body=data,
                ContentMD5=md5,
                **condition,  # type: ignore[arg-type]
            ),
            address=self.address(key),
            doing="write",
            expect=("PreconditionFailed", "NotImplemented") if condition else (),
        )
        if not answer.get("ETag"):
            raise not_s3(self.bucket.server)

    def _quick(
        self,
        method: str,
        key: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        into: memoryview | None = None,
    ) -> Answer | None:
        """A success by the shorter path; None where the ordinary one must be taken.

        Raises: MissingKeyError.
        """
        quick = self.bucket.quick
        if quick is None:
            return None
        full = "" if key is None else self._full(key)
        answer = quick.ask(method, full, headers=headers, query=query, body=body, into=into)
        if answer is None:
            return None
        if answer.status < 300 or (answer.status == 416 and method == "GET"):
            self.bucket.seen = True
            return answer
        # The answer to a HEAD has no body, so of a bucket that never answered it may be the bucket that is missing.
        is_missing = self.bucket.seen if method == "HEAD" else b"<Code>NoSuchKey</Code>" in bytes(answer.body)
        if answer.status == 404 and key is not None and is_missing:
            raise self.bucket.refusal("NoSuchKey", 404, address=self.address(key), doing="read")
        return None

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        check_key(key)
        for _ in range(UPLOAD_TRIES):
            with contextlib.suppress(DamagedPartError):
                sent = put_file(
                    self.bucket,
                    self._full(key),
                    path,
                    sha256=sha256,
                    part_bytes=self.part_bytes,
                    address=self.address(key),
                )
                if sent.is_etag(sent.answered) or self._holds(key, sent):
                    return
        raise StoreError(
            f"{self.address(key)} does not hold what was sent, after {UPLOAD_TRIES} tries: {self.bucket.server} or "
            f"the network damages data; the file is still at {path}"
        )

    def list(self, prefix: str = "") -> Iterator[Entry]:
        skip = len(self.prefix) + 1 if self.prefix else 0
        for item in self._items(prefix):
            # Some tools store empty objects that stand for folders.
            if not item["Key"].endswith("/"):
                yield Entry(item["Key"][skip:], item["Size"], item["LastModified"], item.get("ETag", ""))

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        for page in self._pages(folder, Delimiter="/"):
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"].rstrip("/").rpartition("/")[2]

    def stat(self, key: str) -> Entry:
        answer = self._quick("HEAD", key)
        if answer is not None and {"last-modified", "content-length"} <= answer.headers.keys():
            size_bytes, modified = answer.headers["content-length"], answer.headers["last-modified"]
            return Entry(key, int(size_bytes), http_time(modified), answer.headers.get("etag", ""))
        head = self._head(key)
        if not {"LastModified", "ContentLength"} <= head.keys():
            raise not_s3(self.bucket.server, f" (it knows no time or size of {self.address(key)})")
        return Entry(key, head["ContentLength"], head["LastModified"], head.get("ETag", ""))

    def delete(self, key: str) -> None:
        quick = self._quick("DELETE", key)
        if quick is not None:
            self.bucket.keeps_versions |= quick.headers.get("x-amz-delete-marker") == "true"
            return
        with contextlib.suppress(MissingKeyError):
            answer = self.bucket.call(
                lambda: self.bucket.client.delete_object(Bucket=self.bucket.name, Key=self._full(key)),
                address=self.address(key),
                doing="delete",
            )
            self.bucket.keeps_versions |= bool(answer.get("DeleteMarker"))

    def delete_all(self, prefix: str) -> None:
        skip = len(self.prefix) + 1 if self.prefix else 0
        self._delete_keys(item["Key"][skip:] for item in self._items(prefix))

    @property
    def keeps_versions(self) -> bool:
        return self.bucket.keeps_versions

    def now(self) -> datetime:
        return self.bucket.now()

    def check_writable(self) -> None:
        key, data = f".tspctl-write-check-{uuid.uuid4().hex[:8]}", b"tspctl"
        self.write(key, data)
        if self.read(key) != data:
            raise StoreError(f"{self.address(key)} does not hold what was written: {self.bucket.server} damages data")
        self.delete(key)

    def _source(self, key: str, entry: Entry | None = None) -> Source:
        entry = entry or self.stat(key)

        def check(answer: Any) -> Any:
            # Compared here, for not every server honours If-Match.
            if entry.version and answer.get("ETag", entry.version) != entry.version:
                answer["Body"].close()
                raise ChangedSourceError
            return answer["Body"]

        def chunks(offset_bytes: int) -> Iterator[bytes]:
            try:
                answer = self.bucket.call(
                    lambda: self._get(key, offset_bytes),
                    address=self.address(key),
                    doing="read",
                    expect=("InvalidRange",),
                )
            except AnsweredError as error:
                raise ChangedSourceError from error
            with contextlib.closing(check(answer)) as body, self.bucket.breaking_off():
                yield from steadily(body)

        def read_range(offset_bytes: int, into: memoryview) -> None:
            def get() -> None:
                with contextlib.closing(check(self._get(key, offset_bytes, len(into)))) as body:
                    self.bucket.fill(into, steadily(body))

            wanted = _range(offset_bytes, len(into))
            answer = self._quick("GET", key, headers={"range": wanted}, into=into)
            if answer is not None and "content-range" in answer.headers and len(answer.body) == len(into):
                if entry.version and answer.headers.get("etag", entry.version) != entry.version:
                    raise ChangedSourceError
                return
            try:
                self.bucket.call(get, address=self.address(key), doing="read", expect=("InvalidRange",), has_body=True)
            except AnsweredError as error:
                raise ChangedSourceError from error

        return Source(
            address=self.address(key),
            size_bytes=entry.size_bytes,
            version=entry.version or str(entry.modified),
            chunks=chunks,
            range=read_range,
        )

    def _get(self, key: str, offset_bytes: int, size_bytes: int | None = None) -> Any:
        """An answer whose body starts at an offset, even where the server ignores ranges."""
        text = _range(offset_bytes, size_bytes)
        wanted = {"Range": text} if text else {}
        answer: Any = self.bucket.client.get_object(
            Bucket=self.bucket.name,
            Key=self._full(key),
            **wanted,  # type: ignore[arg-type]
        )
        if offset_bytes and "ContentRange" not in answer:
            left = offset_bytes
            while left and (skipped := answer["Body"].read(min(left, BLOCK_BYTES))):
                left -= len(skipped)
        return answer

    def _head(self, key: str) -> Any:
        try:
            return self.bucket.call(
                lambda: self.bucket.client.head_object(Bucket=self.bucket.name, Key=self._full(key)),
                address=self.address(key),
                doing="read",
            )
        except MissingKeyError:
            self.bucket.check_exists()
            raise
        except StoreUnreachableError:
            raise
        except StoreError:
            self._explain_head(key)
            raise

    def _explain_head(self, key: str) -> None:
        """Ask for a byte: the answer to a HEAD has no body, which would say why it was refused.

        Raises: StoreError.
        """
        with contextlib.suppress(AnsweredError):
            self.bucket.call(
                lambda: self._get(key, 0, 1)["Body"].close(),
                address=self.address(key),
                doing="read",
                expect=("InvalidRange",),
            )

    def _full(self, key: str) -> str:
        """The key in the bucket. Other programs' keys may hold "//" or end with a slash, which is theirs to choose."""
        if not key or key.startswith("/") or any(part in (".", "..") for part in key.split("/")):
            raise StoreError(
                f"{key!r} in {self.uri} is no key of a store: clients and servers change slashes at the beginning and "
                f"parts '.' and '..' on their way; use the tool that made it"
            )
        return f"{self.prefix}/{key}" if self.prefix else key

    def _items(self, prefix: str) -> Iterator[Any]:
        for page in self._pages(prefix):
            yield from page.get("Contents", ())

    def _pages(self, prefix: str, **extra: str) -> Iterator[Any]:
        check_prefix(prefix)
        full = f"{self.prefix}/{prefix}" if self.prefix else prefix
        wanted: dict[str, Any] = {"Bucket": self.bucket.name, "Prefix": full, **extra}
        while True:
            page: Any = self._quick_page(wanted) or self.bucket.call(
                lambda: self.bucket.client.list_objects_v2(**wanted), address=self.address(prefix), doing="list"
            )
            if not _LISTED & page.keys():
                raise not_s3(self.bucket.server)
            yield page
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def _quick_page(self, wanted: Mapping[str, str]) -> dict[str, Any] | None:
        """A page of a list as boto3 gives it, by the shorter path."""
        query = {name: wanted[given] for given, name in _LIST_QUERY.items() if given in wanted}
        answer = self._quick("GET", query={"list-type": "2", **query})
        return None if answer is None else parse_page(bytes(answer.body))

    def _holds(self, key: str, sent: Sent) -> bool:
        """Whether the store now has exactly these bytes.

        Size and ETag say so where the ETag is made of MD5s, of the parts or of the whole. Where it is not (encryption
        with KMS keys, some servers) the object is read back and its SHA-256 compared.
        """
        try:
            head = self._head(key)
        except MissingKeyError:
            return False
        if head["ContentLength"] != sent.size_bytes:
            return False
        if sent.is_etag(head.get("ETag", "")):
            return True
        try:
            return self._read_back(key) == sent.sha256
        except ChangedSourceError:
            return False

    def _read_back(self, key: str) -> str:
        """SHA-256 of the stored object."""
        digest = hashlib.sha256()
        for chunk in persistent_chunks(self._source(key), 0, retry=self.retry):
            digest.update(chunk)
        return digest.hexdigest()


def _range(offset_bytes: int, size_bytes: int | None) -> str:
    """The header's value; empty for all of an object."""
    if size_bytes is None:
        return f"bytes={offset_bytes}-" if offset_bytes else ""
    return f"bytes={offset_bytes}-{offset_bytes + size_bytes - 1}"


def _from_offset(answer: Answer, offset_bytes: int, size_bytes: int | None) -> bytes:
    """The bytes that were asked for, also of a server that ignores ranges."""
    # Not by the status: some servers answer 200 to a range they honour.
    data = bytes(answer.body) if "content-range" in answer.headers else bytes(answer.body)[offset_bytes:]
    return data if size_bytes is None else data[:size_bytes]


def _rebuild(config: StoreConfig, retry: RetryPolicy, part_bytes: int) -> S3Store:
    return S3Store(config, retry=retry, part_bytes=part_bytes)
