"""A store in a bucket of an S3-compatible server."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tsp.config.store import StoreConfig
from tsp.errors import DeniedError, MissingKeyError, StoreError
from tsp.store.base import Entry, KeyExistsError, Store, check_key
from tsp.store.claims import only_writer, replace_claimed
from tsp.store.retry import RetryPolicy
from tsp.store.s3.client import AnsweredError
from tsp.store.s3.errors import not_s3
from tsp.store.s3.prefix import Prefix
from tsp.store.s3.reader import Reader
from tsp.store.s3.upload import DamagedPartError, Sent, content_md5, md5_of, put_file
from tsp.store.transfer import ChangedSourceError, Source

UPLOAD_TRIES = 3
IF_ABSENT = {"IfNoneMatch": "*"}
BROKEN = {**IF_ABSENT, "IfMatch": '"0123456789abcdef0123456789abcdef"'}
"""Conditions that an empty object breaks."""
_REFUSALS = ("PreconditionFailed", "NotImplemented")
REFUSALS = {"IfNoneMatch": _REFUSALS, "IfMatch": (*_REFUSALS, "NoSuchKey", "404")}

logger = logging.getLogger(__name__)


class S3Store(Store):
    """Keys live below ``s3://bucket/prefix``."""

    def __init__(self, config: StoreConfig, *, retry: RetryPolicy, part_bytes: int) -> None:
        self.config, self.retry, self.part_bytes = config, retry, part_bytes
        self.prefix = Prefix(config, retry)
        self.bucket, self.uri = self.prefix.bucket, self.prefix.uri
        self._reader = Reader(self.prefix)

    def __reduce__(self) -> Any:
        return _rebuild, (self.config, self.retry, self.part_bytes)

    def read(self, key: str, *, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
        return self._reader.read(key, offset_bytes, size_bytes)

    def write(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        check_key(key)
        md5 = content_md5(md5_of(data))
        if not only_if_absent:
            answer = self.prefix.quick("PUT", key, headers={"content-md5": md5}, body=data)
            if answer is None or "etag" not in answer.headers:
                self._write(key, data, md5)
            return
        if self.exists(key):
            raise KeyExistsError(f"{self.address(key)} exists already")
        if not self._honours(IF_ABSENT):
            with only_writer(self, key):
                self.write(key, data)
        # Our own first try may have arrived although its answer was lost.
        elif not self._write_if(IF_ABSENT, key, data) and self.read(key) != data:
            raise KeyExistsError(f"{self.address(key)} exists already")

    def replace(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        check_key(key)
        condition = IF_ABSENT
        if expected is not None:
            try:
                # Asked for before the content: whatever replaces the object from now on has another ETag.
                condition = {"IfMatch": self.stat(key).version}
                if self.read(key) != expected:
                    return False
            except MissingKeyError:
                return False
        if self._honours(condition):
            return self._write_if(condition, key, data)
        try:
            return replace_claimed(self, key, data, expected=expected)
        except DeniedError as error:
            logger.warning("%s: what another writes at this moment may be lost: %s", self.address(key), error)
            self.write(key, data)
            return True

    def _write_if(self, condition: Mapping[str, str], key: str, data: bytes) -> bool:
        """Whether the server did so; also False if it does not support conditions."""
        try:
            self._write(key, data, content_md5(md5_of(data)), **condition)
        except AnsweredError:
            return False
        return True

    def _honours(self, condition: Mapping[str, str]) -> bool:
        """Whether the server refuses a write that breaks the condition: tested once, on a separate object."""
        (name,) = condition
        if name not in self.bucket.honours:
            probe = f".tspctl-condition-{uuid.uuid4().hex}"
            self.write(probe, b"")
            self.bucket.honours[name] = self._refuses({name: BROKEN[name]}, probe)
            with contextlib.suppress(DeniedError):
                self.delete(probe)
        return self.bucket.honours[name]

    def _refuses(self, condition: Mapping[str, str], key: str) -> bool:
        try:
            self._write(key, b"", content_md5(md5_of(b"")), **condition)
        except AnsweredError as error:
            return error.code != "NotImplemented"
        return False

    def _write(self, key: str, data: bytes, md5: str, **condition: str) -> None:
        answer = self.bucket.call(
            lambda: self.bucket.client.put_object(
                Bucket=self.bucket.name,
                Key=self.prefix.full(key),
                Body=data,
                ContentMD5=md5,
                **condition,  # type: ignore[arg-type]
            ),
            address=self.address(key),
            doing="write",
            expect=REFUSALS.get(next(iter(condition), ""), ()),
        )
        if not answer.get("ETag"):
            raise not_s3(self.bucket.server)

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        check_key(key)
        for _ in range(UPLOAD_TRIES):
            with contextlib.suppress(DamagedPartError):
                sent = put_file(
                    self.bucket,
                    self.prefix.full(key),
                    path,
                    sha256=sha256,
                    part_bytes=self.part_bytes,
                    address=self.address(key),
                )
                if sent.is_etag(sent.answered) or self._holds(key, sent):
                    return
        raise StoreError(
            f"{self.address(key)} differs from the file that was sent, after {UPLOAD_TRIES} tries: "
            f"{self.bucket.server} or the network corrupts data; the file is still at {path}"
        )

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for item in self.prefix.items(prefix):
            # Some tools store empty objects that stand for folders.
            if not item["Key"].endswith("/"):
                key = self.prefix.relative(item["Key"])
                yield Entry(key, item["Size"], item["LastModified"], item.get("ETag", ""))

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        for page in self.prefix.pages(folder, Delimiter="/"):
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"].rstrip("/").rpartition("/")[2]

    def stat(self, key: str) -> Entry:
        return self._reader.stat(key)

    def delete(self, key: str) -> None:
        quick = self.prefix.quick("DELETE", key)
        if quick is not None:
            self.bucket.keeps_versions |= quick.headers.get("x-amz-delete-marker") == "true"
            return
        with contextlib.suppress(MissingKeyError):
            answer = self.bucket.call(
                lambda: self.bucket.client.delete_object(Bucket=self.bucket.name, Key=self.prefix.full(key)),
                address=self.address(key),
                doing="delete",
            )
            self.bucket.keeps_versions |= bool(answer.get("DeleteMarker"))

    def delete_all(self, prefix: str) -> None:
        self._delete_keys(self.prefix.relative(item["Key"]) for item in self.prefix.items(prefix))

    @property
    def keeps_versions(self) -> bool:
        return self.bucket.keeps_versions

    def now(self) -> datetime:
        return self.bucket.now()

    def check_writable(self) -> None:
        key, data = f".tspctl-write-check-{uuid.uuid4().hex[:8]}", b"tspctl"
        self.write(key, data)
        if self.read(key) != data:
            raise StoreError(
                f"{self.address(key)} differs from the data that was written: {self.bucket.server} corrupts data"
            )
        self.delete(key)

    def _source(self, key: str, entry: Entry | None = None) -> Source:
        return self._reader.source(key, entry or self.stat(key))

    def _holds(self, key: str, sent: Sent) -> bool:
        """Whether the store now has exactly these bytes. Size and ETag prove it if the ETag is made of MD5s, of the
        parts or of the whole. Otherwise (encryption with KMS keys, some servers) the object is read back and its
        SHA-256 compared.
        """
        try:
            head = self._reader.head(key)
        except MissingKeyError:
            return False
        if head["ContentLength"] != sent.size_bytes:
            return False
        if sent.is_etag(head.get("ETag", "")):
            return True
        try:
            return self._reader.sha256_of(key) == sent.sha256
        except ChangedSourceError:
            return False


def _rebuild(config: StoreConfig, retry: RetryPolicy, part_bytes: int) -> S3Store:
    return S3Store(config, retry=retry, part_bytes=part_bytes)
