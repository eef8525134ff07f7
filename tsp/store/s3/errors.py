"""Explains refusals of an S3 server. Pure: it works on codes, so it does not need boto3.

Texts from the server are not passed on, since some servers repeat keys and signed strings in them.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from tsp.errors import DeniedError, MissingKeyError, StoreError

_MISSING_KEY = {"NoSuchKey", "404", "NotFound"}
_MISSING_BUCKET = {"NoSuchBucket", "InvalidBucketName"}
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "401",
    "Unauthorized",
}
_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_CHECKSUM_REFUSED = {"NotImplemented", "InvalidRequest", "InvalidArgument", "XAmzContentChecksumMismatch", "501"}
_TRANSIENT = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "IncompleteBody",
    "OperationAborted",
    "ConditionalRequestConflict",
}

_FULL = {
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
    "StorageQuotaExceeded",
    "ServiceQuotaExceeded",
    "InsufficientStorage",
    "507",
}
_BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "429", "503"}
_PROTECTED = {"MethodNotAllowed", "405", "InvalidRequest", "ObjectLocked", "WORMProtected"}
_NOT_ALLOWED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"}

AWS = "AWS S3"
"""The server where no endpoint is given, in messages."""
CREDENTIALS_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if they are temporary) or "
    "AWS_PROFILE; on a cluster, set the Secret or the service account that provides them"
)
_FULL_HINT = "it is full, or its quota is used up: free some space there or raise the quota"
_RETENTION_HINT = "and that no retention, legal hold or policy of the bucket protects the object"
_RIGHTS = {
    "read": "s3:GetObject on the object (and s3:ListBucket on the bucket, without which a missing object looks like "
    "a forbidden one)",
    "list": "s3:ListBucket on the bucket",
    "write": "s3:PutObject on the object",
    "delete": f"s3:DeleteObject on the object, {_RETENTION_HINT}",
}
_ON_AWS = {
    "read": "; with a KMS key also kms:Decrypt on the key. Buckets whose requesters pay cannot be used",
    "list": ". Buckets whose requesters pay cannot be used",
    "write": "; with a KMS key also kms:GenerateDataKey and kms:Decrypt on the key. If the bucket's policy demands a "
    "header for encryption, which is not sent, let it rely on the bucket's default encryption",
    "delete": "",
}
_ELSEWHERE = "check store.endpoint_url and proxy variables"


class Facts(NamedTuple):
    """Further facts in a response."""

    region: str | None = None
    """The bucket's region."""
    here: datetime | None = None
    """This machine's clock when the response arrived."""
    there: datetime | None = None
    """The server's clock."""


def is_transient(code: str, status: int) -> bool:
    """Whether the same request may succeed a moment later."""
    return code in _TRANSIENT or status == 429 or (status >= 500 and status != 501)


def explain_refusal(
    code: str, status: int, *, address: str, bucket: str, server: str, doing: str, facts: Facts | None = None
) -> StoreError:
    """The error for a response that is not a success and not worth retrying.

    Args: code, S3 error code or HTTP status as text; address, URI of the object; server, endpoint for messages;
        doing, "read", "write", "list" or "delete".
    Returns: MissingKeyError if the key is missing, else StoreError that says what to do.
    """
    facts = facts or Facts()
    if code in _MISSING_BUCKET:
        return StoreError(
            f"bucket {bucket!r} does not exist at {server}: create it, or correct the address {address}"
            f"{_endpoint_hint(server, bucket)}"
        )
    if doing in ("list", "write") and (code in ("404", "NoSuchKey")):
        # A missing bucket has a code of its own, and to write or list no key needs to be there.
        return not_s3(server, _endpoint_hint(server, bucket))
    if code in _MISSING_KEY:
        return MissingKeyError(f"{address} does not exist at {server}")
    if code in _BAD_CREDENTIALS:
        return StoreError(
            f"{server} refused the credentials to {doing} {address} ({code}): {CREDENTIALS_HINT}"
            f"{_endpoint_hint(server, bucket) if code == 'SignatureDoesNotMatch' else ''}"
        )
    if code == "RequestTimeTooSkewed":
        return StoreError(f"{server} refused to {doing} {address}: {_explain_clocks(facts)}")
    if code in _WRONG_REGION:
        where = f"in region {facts.region} ({code}): set store.region to {facts.region}"
        if not facts.region:
            where = f"in another region ({code}): set store.region, or store.endpoint_url, to the bucket's"
        return StoreError(f"{server} says that bucket {bucket!r} is {where}")
    refused = f"{server} refused to {doing} {address} ({code}, HTTP status {status})"
    if hint := _hint(code, doing):
        return StoreError(f"{refused}: {hint}")
    if code in _NOT_ALLOWED or status == 403:
        page = "" if code != "403" else "; the answer has no S3 error code: a proxy or firewall may have given it"
        return DeniedError(
            f"{server} does not let these credentials {doing} {address} ({code}): check the key pair, and that its "
            f"policy grants {_RIGHTS[doing]}{_ON_AWS[doing] if _is_aws(server) else ''}{page}"
        )
    return StoreError(refused)


def _is_aws(server: str) -> bool:
    return server == AWS or (urlsplit(server).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _hint(code: str, doing: str) -> str:
    """Advice for a specific kind of refusal; empty if there is none."""
    if code in _FULL:
        return _FULL_HINT
    if code == "InvalidObjectState":
        return "the object is archived: restore it first ('aws s3api restore-object'), then try again"
    if code.startswith("KMS."):
        return "its encryption key cannot be used: ask the administrator of the bucket's KMS key"
    if doing == "delete" and code in _PROTECTED:
        return f"check that the server lets objects be deleted, {_RETENTION_HINT}"
    if doing == "write" and code in _CHECKSUM_REFUSED:
        return "some servers refuse the request checksums of new S3 clients: set store.checksums to when_required"
    return ""


def explain_silence(code: str, *, address: str, server: str, doing: str, tries: int, roles: str | None = None) -> str:
    """The error if no try succeeded.

    Args: code, of the last failure; roles, the server of a role's credentials, if it was that one that failed.
    """
    num_tries = f"{tries} {'try' if tries == 1 else 'tries'}"
    if roles is not None:
        return (
            f"{roles}, which provides a role's credentials, did not answer within {num_tries} ({code}), so {server} "
            f"was not asked to {doing} {address}: check the network, proxy variables and AWS_ENDPOINT_URL_STS"
        )
    if code in _FULL:
        return f"{server} did not {doing} {address} within {num_tries} ({code}): {_FULL_HINT}"
    if code in _BUSY:
        return (
            f"{server} did not {doing} {address} within {num_tries} ({code}): it is overloaded or limits the request "
            "rate; try again later"
        )
    return (
        f"{server} did not answer within {num_tries} to {doing} {address} ({code}): check store.endpoint_url, the "
        f"network and proxy variables, or try again later"
    )


def explain_foreign(location: str, status: int, *, bucket: str, server: str) -> StoreError:
    """The error for a web page, or for an answer that sends us elsewhere.

    Args: location, as the server gave it; may be empty.
    """
    if not 300 <= status < 400:
        return not_s3(server, " (it sends web pages, as login pages and proxies do)")
    there, here = urlsplit(location), urlsplit(server)
    if not there.hostname or (there.scheme, there.hostname, there.port) == (here.scheme, here.hostname, here.port):
        return not_s3(server, f" (it redirects, HTTP status {status}, as login pages do)")
    host = f"[{there.hostname}]" if ":" in there.hostname else there.hostname
    origin = f"{there.scheme}://{host}" + (f":{there.port}" if there.port else "")
    hint = "" if there.hostname == here.hostname else f"; if a login page or proxy answers there, {_ELSEWHERE}"
    return StoreError(
        f"{server} redirects requests for bucket {bucket!r} to {origin} (HTTP status {status}): set "
        f"store.endpoint_url to {origin}{hint}"
    )


def not_s3(server: str, detail: str = "") -> StoreError:
    """The error for answers that no S3 server gives."""
    return StoreError(f"{server} is not an S3 server{detail}: {_ELSEWHERE}")


def _endpoint_hint(server: str, bucket: str) -> str:
    """What may be wrong with an endpoint that has a path or names the bucket."""
    split = urlsplit(server)
    if split.hostname and split.path.strip("/"):
        return (
            f" (most servers answer at their root only: leave {split.path} out of store.endpoint_url; the bucket is "
            f"named in the store's URI)"
        )
    if (split.hostname or "").startswith(f"{bucket}."):
        return f" (store.endpoint_url names the bucket, too: leave '{bucket}.' out of it)"
    return ""


def _explain_clocks(facts: Facts) -> str:
    if facts.here is None or facts.there is None:
        return "this machine's clock is wrong; set it"
    return (
        f"this machine's clock shows {facts.here:%Y-%m-%d %H:%M:%S} UTC, the server's "
        f"{facts.there:%Y-%m-%d %H:%M:%S} UTC: correct the one that is wrong"
    )
