"""What an S3 server's refusal means, in words. Pure: works on codes, so that it needs no boto3.

Texts from the server are not passed on: some servers repeat keys and signed strings in them.
"""

from __future__ import annotations

from tsp.errors import MissingKeyError, StoreError

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

CREDENTIALS_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if they are temporary) or AWS_PROFILE; "
    "in a cluster name the Secret or the service account that carries them"
)


def is_transient(code: str, status: int) -> bool:
    """Whether the same request may succeed a moment later."""
    return code in _TRANSIENT or status == 429 or (status >= 500 and status != 501)


def explain_refusal(code: str, status: int, *, address: str, bucket: str, server: str, doing: str) -> StoreError:
    """The error for an answer that is no success and not worth repeating.

    Args: code, S3 error code or HTTP status as text; address, URI of the object; server, endpoint for messages;
        doing, "read", "write", "list" or "delete".
    Returns: MissingKeyError if the key is missing, else StoreError that says what to do.
    """
    if code in _MISSING_BUCKET:
        return StoreError(f"bucket {bucket!r} does not exist at {server}: create it, or correct the address {address}")
    if doing == "list" and code == "404":
        # A bucket that is missing has a code of its own.
        return StoreError(f"what answers at {server} is not an S3 server: check store.endpoint_url and proxy variables")
    if code in _MISSING_KEY:
        return MissingKeyError(f"{address} does not exist at {server}")
    if code in _BAD_CREDENTIALS:
        return StoreError(f"{server} refused the credentials to {doing} {address} ({code}): {CREDENTIALS_HINT}")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"{server} refused to {doing} {address}: this machine's clock is wrong; set it")
    if code in _WRONG_REGION:
        return StoreError(
            f"{server} says that bucket {bucket!r} lies in another region ({code}): set store.region, "
            f"or store.endpoint_url, to the bucket's"
        )
    if code in ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden") or status == 403:
        return StoreError(
            f"{server} does not let these credentials {doing} {address} ({code}): check the key pair, and that its "
            f"policy grants s3:ListBucket on the bucket and s3:GetObject, s3:PutObject and s3:DeleteObject on its "
            f"objects"
        )
    hint = ""
    if doing == "write" and code in _CHECKSUM_REFUSED:
        hint = "; some servers refuse the request checksums of new S3 clients: set store.checksums to when_required"
    return StoreError(f"{server} refused to {doing} {address} ({code}, HTTP status {status}){hint}")
