"""A store in a bucket of an S3-compatible server."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsp.config.run import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError
from tsp.store.base import Entry, KeyExistsError, Store, check_key, check_prefix
from tsp.store.retry import RetryPolicy
from tsp.store.s3.client import AnsweredError, Bucket
from tsp.store.s3.upload import Digests, content_md5, md5_of, put_file, read_digests
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

    def write(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
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
        digests = read_digests(path, self.part_bytes)
        if digests.sha256 != sha256:
            raise StoreError(f"{path} has SHA-256 {digests.sha256}, but {sha256} was announced: it changed meanwhile")
        for _ in range(UPLOAD_TRIES):
            put_file(self.bucket, self._full(key), path, digests, address=self.address(key))
            if self._holds(key, digests):
                return
        raise StoreError(
            f"{self.address(key)} does not hold what was sent, after {UPLOAD_TRIES} tries: {self.bucket.server} or "
            f"the network damages data; the file is still at {path}"
        )

    def list(self, prefix: str = "") -> Iterator[Entry]:
        skip = len(self.prefix) + 1 if self.prefix else 0
        for page in self._pages(prefix):
            for item in page.get("Contents", ()):
                # Some tools store empty objects that stand for folders.
                if not item["Key"].endswith("/"):
                    yield Entry(item["Key"][skip:], item["Size"], item["LastModified"])

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        for page in self._pages(folder, Delimiter="/"):
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"].rstrip("/").rpartition("/")[2]

    def stat(self, key: str) -> Entry:
        head = self._head(key)
        return Entry(key, head["ContentLength"], head["LastModified"])

    def delete(self, key: str) -> None:
        with contextlib.suppress(MissingKeyError):
            self.bucket.call(
                lambda: self.bucket.client.delete_object(Bucket=self.bucket.name, Key=self._full(key)),
                address=self.address(key),
                doing="delete",
            )

    def check_writable(self) -> None:
        key, data = f".tspctl-write-check-{uuid.uuid4().hex[:8]}", b"tspctl"
        self.write(key, data)
        if self.read(key) != data:
            raise StoreError(f"{self.address(key)} does not hold what was written: {self.bucket.server} damages data")
        self.delete(key)

    def _source(self, key: str) -> Source:
        head = self._head(key)
        etag = head.get("ETag", "")

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
            # Compared here, for not every server honours If-Match.
            if answer.get("ETag", etag) != etag:
                answer["Body"].close()
                raise ChangedSourceError
            with contextlib.closing(answer["Body"]) as body, self.bucket.breaking_off():
                yield from body.iter_chunks(BLOCK_BYTES)

        return Source(address=self.address(key), size_bytes=head["ContentLength"], version=etag, chunks=chunks)

    def _get(self, key: str, offset_bytes: int) -> Any:
        """The answer to a GET whose body starts at an offset, even where the server ignores ranges."""
        wanted = {"Range": f"bytes={offset_bytes}-"} if offset_bytes else {}
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
        check_key(key)
        return f"{self.prefix}/{key}" if self.prefix else key

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

    def _holds(self, key: str, digests: Digests) -> bool:
        """Whether the store now has exactly these bytes.

        Size and ETag say so where the ETag is made of MD5s. Where it is not (encryption with KMS keys, some servers)
        the object is read back and its SHA-256 compared.
        """
        try:
            head = self._head(key)
        except MissingKeyError:
            return False
        if head["ContentLength"] != digests.size_bytes:
            return False
        if head.get("ETag", "").strip('"').lower() in digests.etags():
            return True
        try:
            return self._read_back(key) == digests.sha256
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
