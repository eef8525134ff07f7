"""The keys below a prefix of a bucket: full names, addresses, lists, frequent requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, StoreError
from tsp.store.base import check_prefix
from tsp.store.retry import RetryPolicy
from tsp.store.s3.client import Bucket
from tsp.store.s3.errors import not_s3
from tsp.store.s3.list_page import parse_page
from tsp.store.s3.wire import Answer

_LISTED = {"IsTruncated", "Contents", "CommonPrefixes", "Name", "KeyCount"}
"""Of a page, one of these is there, however empty it is."""
_LIST_QUERY = {"Prefix": "prefix", "Delimiter": "delimiter", "ContinuationToken": "continuation-token"}


class Prefix:
    """The prefix of a store in a bucket; keys are relative to it."""

    def __init__(self, config: StoreConfig, retry: RetryPolicy) -> None:
        bucket, _, text = config.uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError(f"store {config.uri!r} has no bucket: write s3://bucket/prefix")
        self.text = text.rstrip("/")
        if self.text and any(part in ("", ".", "..") for part in self.text.split("/")):
            raise ConfigError(
                f"store {config.uri!r}: remove empty parts, '.' and '..', which clients and servers change"
            )
        self.bucket = Bucket(bucket, config, retry)
        self.uri = f"s3://{bucket}/{self.text}".rstrip("/")

    def address(self, key: str) -> str:
        """The whole URI of a key, for messages."""
        return f"{self.uri}/{key}"

    def full(self, key: str) -> str:
        """The key in the bucket. Keys of other programs may contain "//" or end with a slash."""
        if not key or key.startswith("/") or any(part in (".", "..") for part in key.split("/")):
            raise StoreError(
                f"{key!r} in {self.uri} is not a valid key: clients and servers change leading slashes and the "
                "parts '.' and '..'; use the tool that created it"
            )
        return f"{self.text}/{key}" if self.text else key

    def relative(self, full: str) -> str:
        """The key of an object that was listed."""
        return full[len(self.text) + 1 :] if self.text else full

    def quick(
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
        full = "" if key is None else self.full(key)
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

    def items(self, prefix: str) -> Iterator[Any]:
        """Objects whose key starts with ``prefix``, as the server lists them, sorted."""
        for page in self.pages(prefix):
            yield from page.get("Contents", ())

    def pages(self, prefix: str, **extra: str) -> Iterator[Any]:
        """Pages of a list, as boto3 gives them."""
        check_prefix(prefix)
        full = f"{self.text}/{prefix}" if self.text else prefix
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
        answer = self.quick("GET", query={"list-type": "2", **query})
        return None if answer is None else parse_page(bytes(answer.body))
