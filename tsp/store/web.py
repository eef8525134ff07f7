"""A file on the web as a source of downloads: its size, and its bytes from any offset."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tsp.config.address import check_address, shown
from tsp.errors import MissingKeyError, StoreError, StoreUnreachableError
from tsp.store.retry import RetryPolicy
from tsp.store.transfer import BLOCK_BYTES, ChangedSourceError, InterruptedTransferError, Source

if TYPE_CHECKING:
    from http.client import HTTPResponse

TIMEOUT_SEC = 60


def http_source(url: str, retry: RetryPolicy) -> Source:
    """The file at an https:// or http:// address. Proxies are taken from the environment.

    Raises: ConfigError if the address holds a password, MissingKeyError, StoreError (refused, unknown certificate),
        StoreUnreachableError.
    """
    check_address("the address", url, may_be_signed=True)
    first = _open_persistently(url, retry)
    length, etag = first.headers["Content-Length"], first.headers["ETag"] or ""
    unused = [first]

    def chunks(offset_bytes: int) -> Iterator[bytes]:
        answer = unused.pop() if unused and not offset_bytes else _open(url, offset_bytes)
        with answer:
            if (answer.headers["ETag"] or "") != etag:
                raise ChangedSourceError
            yield from _body(answer, offset_bytes)

    return Source(address=shown(url), size_bytes=int(length) if length else None, version=etag, chunks=chunks)


def http_size(url: str) -> int | None:
    """Size in bytes of the file at an address, by one HEAD request; None if the server does not provide it.

    Raises: as ``http_source``.
    """
    check_address("the address", url, may_be_signed=True)
    try:
        with _open(url, 0, method="HEAD") as answer:
            length = answer.headers["Content-Length"]
    except InterruptedTransferError as error:
        raise StoreUnreachableError(f"{shown(url)} cannot be reached: check the network") from error
    return int(length) if length else None


def _body(answer: HTTPResponse, offset_bytes: int) -> Iterator[bytes]:
    from http.client import HTTPException

    # A server that ignores the range sends the file from its start.
    skip = offset_bytes if answer.status == 200 else 0
    try:
        while skip and (skipped := answer.read(min(skip, BLOCK_BYTES))):
            skip -= len(skipped)
        while chunk := answer.read(BLOCK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise InterruptedTransferError from error
    if answer.length:
        raise InterruptedTransferError


def _open_persistently(url: str, retry: RetryPolicy) -> HTTPResponse:
    delays = retry.delays_sec()
    while True:
        try:
            return _open(url, 0)
        except InterruptedTransferError as error:
            pause_sec = next(delays, None)
            if pause_sec is None:
                raise StoreUnreachableError(
                    f"{shown(url)} cannot be reached ({type(error.__cause__).__name__}): check the network and the "
                    f"proxy variables"
                ) from error
            time.sleep(pause_sec)


def _open(url: str, offset_bytes: int, *, method: str = "GET") -> HTTPResponse:
    import http.client
    import urllib.error
    import urllib.request

    headers = {"User-Agent": "tspctl", "Accept-Encoding": "identity"}
    if offset_bytes:
        headers["Range"] = f"bytes={offset_bytes}-"
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310, http(s) only
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SEC)  # noqa: S310, http(s) only
    except urllib.error.HTTPError as error:
        raise _explain(error.code, url) from error
    except (OSError, http.client.HTTPException) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise StoreError(
                f"the certificate of {shown(url)} is signed by an unknown authority: set SSL_CERT_FILE to its PEM file"
            ) from error
        raise InterruptedTransferError from error
    return answer


def _explain(status: int, url: str) -> Exception:
    """The error for an HTTP status that is no success."""
    if status in (404, 410):
        return MissingKeyError(f"{shown(url)} does not exist (HTTP status {status}): correct the address")
    if status == 416:
        return ChangedSourceError()
    if status in (408, 429) or status >= 500:
        return InterruptedTransferError()
    return StoreError(f"{shown(url)} was refused (HTTP status {status}): check the address and its permissions")
