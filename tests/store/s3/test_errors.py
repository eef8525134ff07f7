"""What an S3 server's refusal means, in words: every code that a person can do something about has its own advice."""

from datetime import UTC, datetime

import pytest

from tsp.errors import DeniedError, MissingKeyError, StoreError
from tsp.store.s3.errors import Facts, explain_foreign, explain_refusal, explain_silence, is_transient

WHAT = {"address": "s3://b/k", "bucket": "b"}


def refusal(code: str, status: int, doing: str, *, server: str = "http://s:9000", facts: Facts | None = None) -> str:
    return str(explain_refusal(code, status, doing=doing, server=server, facts=facts, **WHAT))


@pytest.mark.parametrize(
    ("code", "status", "again"),
    [
        ("SlowDown", 503, True),
        ("BadDigest", 400, True),
        ("RequestTimeout", 400, True),
        ("", 429, True),
        ("", 500, True),
        ("", 503, True),
        ("", 599, True),
        ("NotImplemented", 501, False),
        ("", 499, False),
        ("AccessDenied", 403, False),
        ("NoSuchKey", 404, False),
    ],
)
def test_a_request_is_repeated_where_that_may_help(code, status, again):
    assert is_transient(code, status) is again


@pytest.mark.parametrize(
    ("code", "status", "doing", "expected"),
    [
        ("NoSuchBucket", 404, "read", "bucket 'b' does not exist at http://s:9000: create it"),
        ("InvalidBucketName", 400, "list", "bucket 'b' does not exist"),
        ("NoSuchKey", 404, "write", "http://s:9000 is not an S3 server"),
        ("404", 404, "list", "http://s:9000 is not an S3 server"),
        ("NotFound", 404, "read", "s3://b/k"),
        ("SignatureDoesNotMatch", 403, "read", "refused the credentials"),
        ("401", 401, "read", "refused the credentials"),
        ("301", 301, "read", "set store.region"),
        ("AccessDenied", 403, "read", "s3:GetObject on the object (and s3:ListBucket"),
        ("403", 403, "list", "s3:ListBucket on the bucket"),
        ("AccessDenied", 403, "delete", "s3:DeleteObject on the object, and that no retention, legal hold"),
        ("XMinioStorageFull", 507, "write", "it is full, or its quota is used up: free some space"),
        ("QuotaExceeded", 403, "write", "it is full, or its quota is used up"),
        ("InvalidObjectState", 403, "read", "the object is archived: restore it first"),
        ("KMS.DisabledException", 400, "read", "ask the administrator of the bucket's KMS key"),
        ("MethodNotAllowed", 405, "delete", "check that the server lets objects be deleted, and that no retention"),
        ("MethodNotAllowed", 405, "read", "MethodNotAllowed, HTTP status 405"),
        ("InvalidRequest", 400, "write", "set store.checksums to when_required"),
        ("InvalidRequest", 400, "delete", "check that the server lets objects be deleted"),
        ("InvalidRequest", 400, "list", "InvalidRequest, HTTP status 400"),
    ],
)
def test_a_refusal_says_what_to_do(code, status, doing, expected):
    assert expected in refusal(code, status, doing)


@pytest.mark.parametrize(
    ("code", "status", "doing", "kind"),
    [
        ("NoSuchKey", 404, "read", MissingKeyError),
        ("404", 404, "delete", MissingKeyError),
        ("NoSuchKey", 404, "list", StoreError),
        ("AccessDenied", 403, "read", DeniedError),
        ("EntityTooLarge", 400, "write", StoreError),
    ],
)
def test_a_missing_key_and_a_missing_right_can_be_told_from_other_refusals(code, status, doing, kind):
    assert type(explain_refusal(code, status, doing=doing, server="s", **WHAT)) is kind


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("http://s:9000/minio", "leave /minio out of store.endpoint_url"),
        ("http://b.s:9000", "leave 'b.' out of it"),
        ("http://s:9000/", "correct the address s3://b/k"),
        ("http://bb.s:9000", "correct the address s3://b/k"),
    ],
)
def test_an_endpoint_that_has_a_path_or_names_the_bucket_is_mentioned(server, expected):
    said = refusal("NoSuchBucket", 404, "read", server=server)
    assert said.endswith(expected) or f"{expected}" in said
    assert ("leave" in said) == expected.startswith("leave")


@pytest.mark.parametrize(
    ("code", "server", "mentioned"),
    [
        ("SignatureDoesNotMatch", "http://b.s:9000", True),
        ("InvalidAccessKeyId", "http://b.s:9000", False),
        ("401", "http://b.s:9000", False),
        ("SignatureDoesNotMatch", "http://s:9000", False),
    ],
)
def test_only_a_wrong_signature_may_come_of_an_endpoint_that_names_the_bucket(code, server, mentioned):
    assert ("leave" in refusal(code, 403, "read", server=server)) is mentioned


@pytest.mark.parametrize(
    ("code", "status", "denied"),
    [("AccessDenied", 400, True), ("Strange", 403, True), ("Strange", 402, False), ("Strange", 404, False)],
)
def test_a_right_is_missing_by_the_code_or_by_the_status(code, status, denied):
    found = explain_refusal(code, status, doing="read", server="s", **WHAT)
    assert isinstance(found, DeniedError) is denied


def test_clocks_that_differ_are_both_shown():
    here, there = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2030, 1, 2, 4, 4, 5, tzinfo=UTC)
    said = refusal("RequestTimeTooSkewed", 403, "read", facts=Facts(here=here, there=there))
    assert (
        "clock shows 2030-01-02 03:04:05 UTC, the server's 2030-01-02 04:04:05 UTC: correct the one that is wrong"
        in said
    )
    for half in (Facts(here=here), Facts(there=there)):
        assert "this machine's clock is wrong" in refusal("RequestTimeTooSkewed", 403, "read", facts=half)


def test_the_region_of_the_bucket_is_named_where_the_server_says_it():
    assert "eu-west-1" in refusal("PermanentRedirect", 301, "read", facts=Facts(region="eu-west-1"))


@pytest.mark.parametrize(("tries", "expected"), [(1, "within 1 try "), (2, "within 2 tries "), (6, "within 6 tries ")])
@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ConnectionError", "check store.endpoint_url, the network and proxy variables"),
        ("503", "it is overloaded or limits the request rate"),
        ("507", "it is full, or its quota is used up"),
    ],
)
def test_a_server_that_stayed_silent_is_explained_with_the_number_of_tries(tries, expected, code, advice):
    said = explain_silence(code, address="s3://b/k", server="s", doing="read", tries=tries)
    assert expected in said
    assert advice in said


@pytest.mark.parametrize(
    ("location", "status", "expected"),
    [
        ("", 200, "is not an S3 server (it sends web pages, as login pages and proxies do)"),
        ("", 299, "it sends web pages"),
        ("", 400, "it sends web pages"),
        ("", 300, "it redirects, HTTP status 300, as login pages do"),
        ("/login", 302, "it redirects, HTTP status 302, as login pages do"),
        ("http://s:9000/login", 399, "it redirects, HTTP status 399, as login pages do"),
        ("https://s:9000/x", 301, "to https://s:9000 (HTTP status 301): set store.endpoint_url to https://s:9000"),
        ("http://s:9001/x", 301, "set store.endpoint_url to http://s:9001"),
        ("http://[::1]/x", 307, "set store.endpoint_url to http://[::1]; if a login page"),
        ("http://zzz/x", 307, "set store.endpoint_url to http://zzz; if a login page or proxy answers there"),
        ("http://other/x", 307, "set store.endpoint_url to http://other; if a login page or proxy answers there"),
    ],
)
def test_an_answer_that_is_no_s3_is_told_from_a_server_that_has_moved(location, status, expected):
    said = str(explain_foreign(location, status, bucket="b", server="http://s:9000"))
    assert expected in said
    assert ("if a login page or proxy" in said) == ("; if a login page" in expected)


@pytest.mark.parametrize("server", ["AWS S3", "https://s3.eu-west-1.amazonaws.com", "http://s:9000"])
@pytest.mark.parametrize(
    ("doing", "hint"),
    [("read", "kms:Decrypt"), ("read", "requesters pay"), ("list", "requesters pay"), ("write", "kms:GenerateDataKey"),
     ("write", "demands a header for encryption"), ("delete", "amazon")],
)  # fmt: skip
def test_what_only_aws_denies_so_is_told_of_aws_only(server: str, doing: str, hint: str) -> None:
    """By its documentation: these refusals have no code of their own."""
    error = explain_refusal("AccessDenied", 403, address="s3://b/k", bucket="b", server=server, doing=doing)
    assert (hint in str(error).replace(server, "")) is (server != "http://s:9000" and doing != "delete")
