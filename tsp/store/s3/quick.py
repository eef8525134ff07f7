"""Frequent requests without boto3: signed here, sent over our own connections (``wire``).

boto3 takes 0.2 s to start and 1 to 2 ms of CPU per request (parameters, endpoint rules, events, parsing), more than a
nearby server takes to answer, and holds the GIL meanwhile. Get, put, head, list and delete need none of it. Responses
other than a plain success are not explained here: the caller repeats the request through boto3, which retries, and
explains the problem.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from tsp.store.s3.wire import Answer, Wire, WireError, forbids_proxies

logger = logging.getLogger(__name__)

_NOTHING_SHA256 = hashlib.sha256(b"").hexdigest()
_UNSIGNED = "UNSIGNED-PAYLOAD"


class KeyPair(NamedTuple):
    """Credentials of a moment."""

    access_key: str
    secret_key: str
    token: str | None


class Quick:
    """Requests to one bucket. Each gives None where it did not succeed."""

    def __init__(
        self, bucket: str, endpoint_url: str, region: str, ca_file: str | None, key_pair: Callable[[], KeyPair | None]
    ) -> None:
        """Args: ca_file, as ``Wire``; key_pair, gives the credentials of now."""
        self._region, self._key_pair = region, key_pair
        self._wire = Wire(endpoint_url, ca_file=ca_file)
        self._path = f"/{quote(bucket)}"

    @staticmethod
    def can_reach(endpoint_url: str) -> bool:
        """Whether a server is reached directly and without a path; boto3 handles proxies."""
        return endpoint_url.rstrip("/").count("/") == 2 and forbids_proxies(endpoint_url)

    def ask(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        into: memoryview | None = None,
    ) -> Answer | None:
        """One request; any response of the server, or None if it was incomplete.

        Args: headers, besides those of every request, with names in lower case; body, with its Content-MD5 among the
            headers unless the ETag in the answer is compared; into, as ``Wire.ask``.
        """
        path = f"{self._path}/{_encoded(key, safe='/')}" if key else self._path
        sorted_query = "&".join(
            f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted((query or {}).items())
        )
        try:
            pair = self._key_pair()
            if pair is None:
                return None
            # The MD5 of a body is compared, by the server (Content-MD5) or here (ETag): another hash proves no more.
            digest = _UNSIGNED if body else _NOTHING_SHA256
            signed = sign(method, self._wire.host, path, sorted_query, headers or {}, digest, self._region, pair)
            return self._wire.ask(method, f"{path}?{sorted_query}" if query else path, signed, body, into=into)
        except WireError as error:
            logger.debug("%s %s: %s", method, path, error)
            return None


def environment_pair() -> KeyPair | None:
    """The key pair of the environment, which is also first in boto3's chain; None in other cases."""
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key or os.environ.get("AWS_CREDENTIAL_EXPIRATION"):
        return None
    token = os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN")
    return KeyPair(access_key, secret_key, token or None)


def _encoded(text: str, *, safe: str = "") -> str:
    """As signatures want it."""
    return quote(text, safe=f"{safe}-_.~")


def sign(
    method: str,
    host: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body_sha256: str,
    region: str,
    pair: KeyPair,
) -> dict[str, str]:
    """The headers of a request with its signature, version 4.

    Args: path and query, encoded, the query sorted; headers, to be signed besides those of every request.
    Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    now = datetime.now(UTC)
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    all_headers = {"host": host, "x-amz-content-sha256": body_sha256, "x-amz-date": moment, **headers}
    if pair.token:
        all_headers["x-amz-security-token"] = pair.token
    signed = dict(sorted(all_headers.items()))
    names = ";".join(signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{body_sha256}"
    scope = f"{day}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = _hmac(_signing_key(pair.secret_key, day, region), to_sign).hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={pair.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed


@functools.lru_cache(maxsize=8)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
