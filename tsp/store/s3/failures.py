"""Errors of boto3: the code of a refusal, and the failures for which retries are useless."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

from tsp.errors import StoreError
from tsp.store.s3.errors import CREDENTIALS_HINT, Facts

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_CODE_OF_STATUS = {"412": "PreconditionFailed", "416": "InvalidRange"}


_PAGE = re.compile(rb"\s*<(!doctype\s+)?html", re.IGNORECASE)
_NO_TLS = ("WRONG_VERSION_NUMBER", "wrong version number", "RECORD_LAYER_FAILURE", "record layer failure")
_NO_PEM = ("NO_CERTIFICATE_OR_CRL_FOUND", "no certificate or crl found", "[X509]", "[PEM:")


def permanent(error: Exception, *, server: str, address: str, doing: str) -> StoreError | None:
    """The error for a failure on our side that will not go away; None if it may.

    Raises: the error itself, if it is of a file that has nothing to do with credentials.
    """
    from botocore import exceptions as known
    from botocore.parsers import ResponseParserError

    if isinstance(error, OSError) and not isinstance(error, known.BotoCoreError):
        refusal = _without_token(error)
        if refusal is None:
            raise error
        return refusal
    if isinstance(error, known.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StoreError(
            f"the certificate of {server} is signed by an unknown authority: set store.ca_bundle to its PEM file "
            "(or AWS_CA_BUNDLE)"
        )
    if isinstance(error, known.SSLError) and any(text in str(error) for text in _NO_TLS):
        return StoreError(f"{server} does not speak TLS: write http:// in store.endpoint_url, or correct its port")
    if isinstance(error, known.SSLError) and any(text in str(error) for text in _NO_PEM):
        return StoreError("store.ca_bundle (or AWS_CA_BUNDLE) names a file without PEM certificates: correct it")
    transient = (
        known.ConnectionError,
        known.HTTPClientError,
        known.IncompleteReadError,
        known.FlexibleChecksumError,  # may fit when the body comes whole
        ResponseParserError,
    )
    if isinstance(error, transient):
        return None
    if isinstance(error, known.ParamValidationError):
        return StoreError(
            f"{address} is not a valid S3 address: check the bucket's name in --store (it takes "
            "s3://bucket/prefix; store.endpoint_url names the server)"
        )
    if "SSO" in type(error).__name__ or "Token" in type(error).__name__:
        return StoreError(
            f"no usable credentials to {doing} {address} at {server} ({type(error).__name__}): the profile's session "
            "has ended or never began; log in with 'aws sso login', or " + CREDENTIALS_HINT
        )
    if "Credential" in type(error).__name__:
        return StoreError(
            f"no usable credentials to {doing} {address} at {server} ({type(error).__name__}): {CREDENTIALS_HINT}"
        )
    return StoreError(f"cannot {doing} {address} at {server} ({type(error).__name__})")


def _without_token(error: OSError) -> StoreError | None:
    """The error for a role's token that cannot be read; None for any other file."""
    for variable in ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        if error.filename and error.filename == os.environ.get(variable):
            return StoreError(
                f"no usable credentials: the token {error.filename} in {variable} cannot be read ({error.strerror}): "
                "is the pod's service account bound to a role? Correct it, or unset the variable"
            )
    return None


def server_of_roles(error: Exception) -> str | None:
    """The server that could not be reached, if it is that of a role's credentials (STS) instead of the store's."""
    asked = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url") or ""))
    own = urlsplit(os.environ.get("AWS_ENDPOINT_URL_STS", ""))
    is_sts = (asked.hostname or "").startswith("sts.") or (own.netloc and asked.netloc == own.netloc)
    return f"{asked.scheme}://{asked.netloc}" if is_sts else None


def code_and_status(error: ClientError) -> tuple[str, int]:
    """S3's error code, or the HTTP status as text where the server sends none, and the HTTP status."""
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return _CODE_OF_STATUS.get(code or str(status), code or str(status)), status


def http_time(text: str) -> datetime:
    """The time in a header: GMT, even without a zone. Raises: ValueError."""
    found = parsedate_to_datetime(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def facts_of(error: ClientError) -> Facts:
    """Region and clocks, as far as a response contains them."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    details: Any = error.response.get("Error", {})
    there = None
    with contextlib.suppress(KeyError, ValueError):
        there = http_time(headers["date"]).astimezone(UTC)
    return Facts(headers.get("x-amz-bucket-region") or details.get("Region"), datetime.now(UTC), there)


class ForeignAnswerError(Exception):
    """The server sends us to another address, or a web page."""

    def __init__(self, location: str, status: int) -> None:
        super().__init__(str(status))
        self.location, self.status = location, status


def refuse_foreign(response_dict: Any, operation_model: Any, **_: object) -> None:
    """Refuses responses that boto3 must not parse, for its event before parsing. boto3 does not follow redirects, and
    recurses forever if it looks up a bucket's region at a server that redirects that request, too; we cannot follow
    them either, since a signature is valid for one host only. boto3 treats a web page as an empty list.

    Raises: ForeignAnswerError, but not for a redirect that names the bucket's region.
    """
    status, headers = response_dict["status_code"], response_dict["headers"]
    is_redirect = 300 <= status < 400 and status != 304 and not headers.get("x-amz-bucket-region")
    # By the text: some servers call everything text/html.
    is_page = status < 300 and operation_model.name != "GetObject" and _PAGE.match(response_dict["body"])
    if is_redirect or is_page:
        raise ForeignAnswerError(headers.get("location", ""), status)


def short(error: Exception) -> str:
    """An error's code or kind; its text may hold addresses with secrets."""
    return code_and_status(error)[0] if _is_refusal(error) else type(error).__name__


def _is_refusal(error: Exception) -> TypeGuard[ClientError]:
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError)
