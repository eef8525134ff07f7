"""Requests to an S3-compatible server: one bucket's clients, retries, explained refusals."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tsp.config.store import StoreConfig
from tsp.errors import StoreError, StoreUnreachableError
from tsp.store.deadline import within
from tsp.store.retry import RetryPolicy
from tsp.store.s3.boto import check_settings, make_client
from tsp.store.s3.errors import AWS, Facts, explain_foreign, explain_refusal, explain_silence, is_transient
from tsp.store.s3.failures import (
    ForeignAnswerError,
    code_and_status,
    facts_of,
    http_time,
    permanent,
    server_of_roles,
    short,
)
from tsp.store.s3.quick import KeyPair, Quick, environment_pair
from tsp.store.transfer import InterruptedTransferError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ANSWER_SEC = 120.0
"""The whole of a small answer may take so long: boto3's own timeout starts anew with each byte that drips in."""
TRANSFER_SEC = 600.0
"""The same for a request or an answer of megabytes, whose headway is watched as well (``bodies``, ``wire``)."""
TRY_AGAIN_FOR_SEC = 60.0
"""No further try begins after so long: a server that takes a minute to fail is not asked six times."""
SAY_AFTER_SEC = 15
"""A request that has been repeated for that long is mentioned, each time anew."""

R = TypeVar("R")
logger = logging.getLogger(__name__)


class AnsweredError(Exception):
    """The server refused with a code that the caller expects."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Bucket:
    """One bucket of one server. Usable from several threads, and after a fork."""

    def __init__(self, name: str, config: StoreConfig, retry: RetryPolicy) -> None:
        check_settings(config)
        self.name, self.config, self.retry = name, config, retry
        self.server = config.endpoint_url or AWS
        self.seen = False
        """Whether the bucket has answered."""
        split = urlsplit(config.endpoint_url or "")
        self._endpoint_is_doubtful = bool(split.path.strip("/")) or (split.hostname or "").startswith(f"{name}.")
        self.keeps_versions = False
        """Whether it was seen that a deletion hides an object instead of removing it."""
        self.honours: dict[str, bool] = {}
        """Conditions of writing that were tried -> whether the server refuses a write that breaks them."""
        self._lock = threading.RLock()
        self._client_of_pid: tuple[int, S3Client] | None = None
        self._quick_of_pid: tuple[int, Quick | None] | None = None

    @property
    def client(self) -> S3Client:
        """The boto3 client of this process."""
        with self._lock:
            if self._client_of_pid is None or self._client_of_pid[0] != os.getpid():
                self._client_of_pid = (os.getpid(), make_client(self.config))
            return self._client_of_pid[1]

    @property
    def quick(self) -> Quick | None:
        """The shorter path for frequent requests, of this process; None if it cannot be used. It is for servers with
        their own endpoint in path style; boto3 resolves the addresses of AWS' buckets.
        """
        self._look_first()  # not under the lock, which the thread that asks needs
        with self._lock:
            if self._quick_of_pid is None or self._quick_of_pid[0] != os.getpid():
                self._quick_of_pid = (os.getpid(), self._make_quick())
            return self._quick_of_pid[1]

    def _make_quick(self) -> Quick | None:
        url = self.config.endpoint_url
        if url is None or not self.config.path_style or not Quick.can_reach(url):
            return None
        region = self.config.region or self.region
        return None if region is None else Quick(self.name, url, region, self.ca_file(), self.key_pair)

    def key_pair(self) -> KeyPair | None:
        """The credentials of now; None if there are none, which the ordinary path explains."""
        pair = environment_pair()
        if pair is not None:
            return pair
        try:
            found: Any = self.client
            frozen = found._request_signer._credentials.get_frozen_credentials()
        except Exception as error:
            # An internal error of boto3, or of a credential provider: the request through boto3 reports it.
            logger.debug("no credentials for the shorter path: %s", type(error).__name__)
            return None
        return KeyPair(frozen.access_key, frozen.secret_key, frozen.token)

    def ca_file(self) -> str | None:
        """The authorities to trust; None for those that Python trusts."""
        if self.config.ca_bundle:
            return str(Path(self.config.ca_bundle).expanduser())
        return os.environ.get("AWS_CA_BUNDLE") or None

    @property
    def region(self) -> str | None:
        """The region of the client, which a server with its own endpoint expects in signatures."""
        meta = getattr(self.client, "meta", None)
        return None if meta is None else meta.region_name

    def call(
        self,
        request: Callable[[], R],
        *,
        address: str,
        doing: str,
        expect: tuple[str, ...] = (),
        has_body: bool = False,
    ) -> R:
        """The answer to a request, which is repeated while that may help.

        Args: address, URI for messages; doing, "read", "write", "list" or "delete"; expect, refusals to signal;
            has_body, of megabytes, which may take ``TRANSFER_SEC``.
        Raises: AnsweredError for those; MissingKeyError and StoreError for others; StoreUnreachableError.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        self._look_first()
        delays, began, tries = self.retry.delays_sec(), time.monotonic(), 0
        while True:
            cause: Exception
            tries += 1
            try:
                answer = within(TRANSFER_SEC if has_body else ANSWER_SEC, request)
            except TimeoutError as error:
                cause = error
            except ClientError as error:
                code, status = code_and_status(error)
                if code in expect:
                    raise AnsweredError(code) from error
                if not is_transient(code, status):
                    raise self.refusal(code, status, address=address, doing=doing, facts=facts_of(error)) from error
                cause = error
            except ForeignAnswerError as error:
                raise explain_foreign(error.location, error.status, bucket=self.name, server=self.server) from error
            except (BotoCoreError, ResponseParserError, OSError) as error:
                refusal = permanent(error, server=self.server, address=address, doing=doing)
                if refusal is not None:
                    raise refusal from error
                cause = error
            else:
                self.seen = True
                return answer
            pause_sec, waited_sec = next(delays, None), time.monotonic() - began
            if pause_sec is None or waited_sec > TRY_AGAIN_FOR_SEC:
                raise self.unreachable(address=address, doing=doing, cause=cause, tries=tries) from cause
            if waited_sec > SAY_AFTER_SEC:
                logger.warning("%s: waiting for %s since %.0f s (%s)", address, self.server, waited_sec, short(cause))
            time.sleep(pause_sec)

    def _look_first(self) -> None:
        """Where the endpoint may name the bucket already, a server would take the bucket for a part of the key."""
        if self._endpoint_is_doubtful and not self.seen:
            self._endpoint_is_doubtful = False
            self.check_exists()

    def check_exists(self) -> None:
        """Ask for the bucket itself, once: the answer to a HEAD of a key cannot tell which of the two is missing.

        Raises: StoreError if there is no such bucket.
        """
        if self.seen:
            return
        address = f"s3://{self.name}"
        with contextlib.suppress(AnsweredError):
            # Whoever may not look at the bucket may still use what is in it. Not HeadBucket: without a body its answer
            # does not say whether it is the bucket that is missing.
            self.call(
                lambda: self.client.list_objects_v2(Bucket=self.name, MaxKeys=1),
                address=address,
                doing="list",
                expect=("403", "AccessDenied", "Forbidden"),
            )
        self.seen = True

    def now(self) -> datetime:
        """The time by the server's clock, from the Date of an answer; this machine's if the server sends none."""
        from botocore.exceptions import ClientError

        def ask() -> dict[str, str]:
            try:
                return self.client.head_bucket(Bucket=self.name)["ResponseMetadata"]["HTTPHeaders"]
            except ClientError as error:
                # Any answer has a date, a refusal too.
                if code_and_status(error)[1] < 500:
                    return error.response["ResponseMetadata"]["HTTPHeaders"]
                raise

        headers = self.call(ask, address=f"s3://{self.name}", doing="read")
        try:
            return http_time(headers["date"])
        except (KeyError, ValueError):
            return datetime.now(UTC)

    @contextlib.contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Turn a body that breaks off into InterruptedTransferError."""
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except (BotoCoreError, OSError) as error:
            raise InterruptedTransferError from error

    def fill(self, view: memoryview, blocks: Iterator[bytes]) -> None:
        """Read a body into its destination; ``call`` repeats the request if reading is interrupted."""
        from botocore.exceptions import IncompleteReadError

        done = 0
        for block in blocks:
            end = min(done + len(block), len(view))
            view[done:end] = block[: end - done]
            done = end
            if done == len(view):
                return
        if done < len(view):
            raise IncompleteReadError(actual_bytes=done, expected_bytes=len(view))

    def refusal(self, code: str, status: int, *, address: str, doing: str, facts: Facts | None = None) -> StoreError:
        """The error for a response that is not worth retrying."""
        return explain_refusal(
            code, status, address=address, bucket=self.name, server=self.server, doing=doing, facts=facts
        )

    def unreachable(self, *, address: str, doing: str, cause: Exception, tries: int) -> StoreUnreachableError:
        """The error when the retries are used up."""
        return StoreUnreachableError(
            explain_silence(
                short(cause),
                address=address,
                server=self.server,
                doing=doing,
                tries=tries,
                roles=server_of_roles(cause),
            )
        )
