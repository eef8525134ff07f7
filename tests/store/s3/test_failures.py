"""What boto3 raises, and what it must not get to see."""

from types import SimpleNamespace

import pytest
from botocore import exceptions
from botocore.parsers import ResponseParserError

from tsp.errors import StoreError
from tsp.store.s3.failures import (
    ForeignAnswerError,
    code_and_status,
    facts_of,
    http_time,
    permanent,
    refuse_foreign,
    short,
)

OPERATIONS = ["AbortMultipartUpload", "CompleteMultipartUpload", "DeleteObject", "GetObject", "HeadObject",
              "ListObjectsV2", "PutObject", "UploadPart"]  # fmt: skip
PAGE = b"\n <!DOCTYPE html><html>log in</html>"


def refused(operation="ListObjectsV2", *, status=200, body=b"<?xml", headers=None):
    """Whether an answer is refused before boto3 parses it, and with which address."""
    response = {"status_code": status, "headers": headers or {}, "body": body}
    try:
        refuse_foreign(response, SimpleNamespace(name=operation))
    except ForeignAnswerError as error:
        return error.location, error.status
    return None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_web_page_is_no_answer_to_anything_but_a_read_of_an_object_that_is_one(operation):
    assert refused(operation, body=PAGE) == (None if operation == "GetObject" else ("", 200))
    assert refused(operation) is None


@pytest.mark.parametrize(
    ("status", "is_refused"),
    [(200, True), (299, True), (300, True), (304, False), (399, True), (400, False), (404, False), (500, False)],
)
def test_pages_of_errors_are_left_to_the_status(status, is_refused):
    assert (refused(status=status, body=PAGE) is not None) is is_refused


@pytest.mark.parametrize(
    ("status", "headers", "found"),
    [
        (301, {"location": "https://other/"}, ("https://other/", 301)),
        (302, {}, ("", 302)),
        (307, {"x-amz-bucket-region": "eu-west-1", "location": "https://other/"}, None),
        (304, {"location": "https://other/"}, None),
        (299, {"location": "https://other/"}, None),
        (400, {"location": "https://other/"}, None),
    ],
)
def test_a_redirect_is_refused_unless_it_names_the_region(status, headers, found):
    assert refused("GetObject", status=status, headers=headers) == found


def client_error(status=403, code=None, **metadata):
    response = {"ResponseMetadata": {"HTTPStatusCode": status, **metadata}}
    return exceptions.ClientError(response | ({"Error": {"Code": code}} if code else {}), "GetObject")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (client_error(403, "AccessDenied"), ("AccessDenied", 403)),
        (client_error(404), ("404", 404)),
        (client_error(412), ("PreconditionFailed", 412)),
        (client_error(416), ("InvalidRange", 416)),
        (client_error(412, "412"), ("PreconditionFailed", 412)),
    ],
)
def test_a_refusal_has_a_code_whether_or_not_the_server_sends_one(error, found):
    assert code_and_status(error) == found
    assert short(error) == found[0]
    assert short(OSError("https://secret@host")) == "OSError"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Wed, 02 Jan 2030 03:04:05 GMT", "2030-01-02T03:04:05+00:00"),
        ("Wed, 02 Jan 2030 03:04:05", "2030-01-02T03:04:05+00:00"),
        ("Wed, 02 Jan 2030 03:04:05 -0000", "2030-01-02T03:04:05+00:00"),
        ("Wed, 02 Jan 2030 03:04:05 +0100", "2030-01-02T03:04:05+01:00"),
    ],
)
def test_the_time_of_an_answer_is_gmt_unless_it_says_otherwise(text, found):
    assert http_time(text).isoformat() == found


def test_region_and_clocks_are_read_where_an_answer_has_them():
    headers = {"date": "Wed, 02 Jan 2030 03:04:05 GMT", "x-amz-bucket-region": "eu-west-1"}
    facts = facts_of(client_error(HTTPHeaders=headers))
    assert (facts.region, facts.there.isoformat()) == ("eu-west-1", "2030-01-02T03:04:05+00:00")
    bare = facts_of(client_error(HTTPHeaders={"date": "yesterday"}))
    assert (bare.region, bare.there) == (None, None)
    assert bare.here is not None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            exceptions.SSLError(endpoint_url="", error="CERTIFICATE_VERIFY_FAILED"),
            "set store.ca_bundle to its PEM file",
        ),
        (exceptions.SSLError(endpoint_url="", error="WRONG_VERSION_NUMBER"), "s does not speak TLS"),
        (exceptions.SSLError(endpoint_url="", error="[X509] no start line"), "a file without PEM certificates"),
        (exceptions.SSLError(endpoint_url="", error="reset"), None),
        (exceptions.EndpointConnectionError(endpoint_url="", error=""), None),
        (exceptions.ReadTimeoutError(endpoint_url="", error=""), None),
        (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), None),
        (exceptions.FlexibleChecksumError(error_msg=""), None),
        (ResponseParserError("cut"), None),
        (exceptions.ParamValidationError(report=""), "is not a valid S3 address"),
        (exceptions.NoCredentialsError(), r"no usable credentials to read s3://b/k at s \(NoCredentialsError\)"),
        (exceptions.TokenRetrievalError(provider="", error_msg=""), "no usable credentials"),
        (exceptions.SSOTokenLoadError(error_msg=""), "no usable credentials .* log in with 'aws sso login'"),
        (exceptions.UnknownSignatureVersionError(signature_version="x"), r"cannot read s3://b/k at s \(Unknown"),
    ],
)
def test_a_failure_that_will_not_go_away_says_what_to_do_and_others_are_tried_again(error, words):
    found = permanent(error, server="s", address="s3://b/k", doing="read")
    if words is None:
        assert found is None
    else:
        assert isinstance(found, StoreError)
        with pytest.raises(StoreError, match=words):
            raise found
