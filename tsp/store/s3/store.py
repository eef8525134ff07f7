"""A store in a bucket of an S3-compatible server."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tsp.config.run import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError
from tsp.store.base import Entry, KeyExistsError, Store, check_key, check_prefix
from tsp.store.retry import RetryPolicy
from tsp.store.s3.client import AnsweredError, Bucket
from tsp.store.s3.quick import quick_read
from tsp.store.s3.upload import Sent, content_md5, md5_of, put_file
from tsp.store.transfer import BLOCK_BYTES, ChangedSourceError, Source, persistent_chunks

UPLOAD_TRIES = 3


class S3Store(Store):
    """Keys live below ``s3://bucket/prefix``."""

    def __init__(self, config: StoreConfig, *, retry: RetryPolicy, part_bytes: int) -> None:
        bucket, _, prefix = config.uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError(f"store {config.uri!r} names no bucket: it takes s3://bucket/prefix")
        self.config, self.retry, self.part_bytes = config, retry, part_bytes
        self.prefix = prefix.strip("/")
        self.bucket = Bucket(bucket, config, retry)
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")

    def __reduce__(self) -> Any:
        return _rebuild, (self.config, self.retry, self.part_bytes)

    def read(self, key: str, *, offset_bytes: int = 0) -> bytes:
        def get() -> bytes:
            with contextlib.closing(self._get(key, offset_bytes)["Body"]) as body:
                data: bytes = body.read()
            return data

        try:
            return self.bucket.call(get, address=self.address(key), doing="read", expect=("InvalidRange",))
        except AnsweredError:
            return b""

    def _read_small(self, key: str) -> bytes:
        data = quick_read(self.bucket, self._full(key))
        return self.read(key) if data is None else data

    def write(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        check_key(key)
        if only_if_absent and self.exists(key):
            raise KeyExistsError(f"{self.address(key)} exists already")
        condition = {"IfNoneMatch": "*"} if only_if_absent else {}
        try:
            self.bucket.call(
                lambda: self.bucket.client.put_object(
                    Bucket=self.bucket.name,
                    Key=self._full(key),
                    Body=data,
                    ContentMD5=content_md5(md5_of(data)),
                    **condition,  # type: ignore[arg-type]
                ),
                address=self.address(key),
                doing="write",
                expect=("PreconditionFailed", "NotImplemented") if only_if_absent else (),
            )
        except AnsweredError as error:
            if error.code == "NotImplemented":
                self.write(key, data)
            # Our own first try may have arrived although its answer was lost.
            elif self.read(key) != data:
                raise KeyExistsError(f"{self.address(key)} exists already") from None

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        check_key(key)
        for _ in range(UPLOAD_TRIES):
            sent = put_file(
                self.bucket,
                self._full(key),
                path,
                sha256=sha256,
                part_bytes=self.part_bytes,
                address=self.address(key),
            )
            if self._holds(key, sent):
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
        head = self._head(key)
        return Entry(key, head["ContentLength"], head["LastModified"], head.get("ETag", ""))

    def delete(self, key: str) -> None:
        with contextlib.suppress(MissingKeyError):
            self.bucket.call(
                lambda: self.bucket.client.delete_object(Bucket=self.bucket.name, Key=self._full(key)),
                address=self.address(key),
                doing="delete",
            )

    def delete_all(self, prefix: str) -> None:
        skip = len(self.prefix) + 1 if self.prefix else 0
        self._delete_keys(item["Key"][skip:] for item in self._items(prefix))

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
                yield from body.iter_chunks(BLOCK_BYTES)

        def read_range(offset_bytes: int, size_bytes: int) -> bytes:
            def get() -> bytes:
                with contextlib.closing(check(self._get(key, offset_bytes, size_bytes))) as body:
                    data: bytes = body.read(size_bytes)
                return self.bucket.whole(data, size_bytes)

            try:
                return self.bucket.call(get, address=self.address(key), doing="read", expect=("InvalidRange",))
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
        end = "" if size_bytes is None else offset_bytes + size_bytes - 1
        wanted = {"Range": f"bytes={offset_bytes}-{end}"} if offset_bytes or size_bytes else {}
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
            page: Any = self.bucket.call(
                lambda: self.bucket.client.list_objects_v2(**wanted), address=self.address(prefix), doing="list"
            )
            yield page
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

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


def _rebuild(config: StoreConfig, retry: RetryPolicy, part_bytes: int) -> S3Store:
    return S3Store(config, retry=retry, part_bytes=part_bytes)
