"""What a server or a setting refuses is said with what to do."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from tests.s3_servers import S3Server, free_port, start_rclone_tls
from tests.stores import PART_BYTES, QUICK, s3_store
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError, StoreUnreachableError
from tsp.store.base import Store, sha256_of
from tsp.store.open import open_store
from tsp.store.s3.errors import explain_refusal
from tsp.store.s3.failures import server_of_roles


def verbs(store: Store, tmp_path: Path) -> dict[str, object]:
    (tmp_path / "file").write_bytes(b"x")
    digest = sha256_of(tmp_path / "file")
    return {
        "read": lambda: store.read("key"),
        "write": lambda: store.write("key", b"x"),
        "stat": lambda: store.stat("key"),
        "list": lambda: list(store.list()),
        "upload": lambda: store.upload("key", tmp_path / "file", sha256=digest),
        "download": lambda: store.download("key", tmp_path / "back"),
        "check": store.check_writable,
    }


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_SECRET_ACCESS_KEY", "not-the-secret"), ("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_ACCESS_KEY_ID", None)],
)
def test_a_wrong_key_pair_is_refused_with_what_to_do_and_without_the_pair(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    monkeypatch.setenv(variable, value) if value else monkeypatch.delenv(variable)
    for verb, ask in verbs(s3_store(s3_server), tmp_path).items():
        with pytest.raises(StoreError, match="credentials") as caught:
            ask()
        assert not isinstance(caught.value, MissingKeyError | StoreUnreachableError), verb
        assert ("AWS_ACCESS_KEY_ID" in str(caught.value)) or ("check the key pair" in str(caught.value))
        for secret in (s3_server.secret_key, s3_server.access_key, "not-the-secret"):
            assert secret not in str(caught.value)


def test_a_missing_bucket_is_told_from_a_missing_key(s3_server: S3Server, tmp_path: Path) -> None:
    for ask in verbs(open_store(s3_server.config(uri="s3://no-such-bucket/runs"), retry=QUICK), tmp_path).values():
        with pytest.raises(StoreError, match=r"bucket 'no-such-bucket' does not exist .* create it") as caught:
            ask()
        assert not isinstance(caught.value, MissingKeyError)


def test_nobody_listening_is_unreachable_and_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    url = f"http://127.0.0.1:{free_port()}"
    store = open_store(StoreConfig(uri="s3://runs", endpoint_url=url, region="us-east-1"), retry=QUICK)
    with pytest.raises(StoreUnreachableError, match=r"within 4 tries .*EndpointConnectionError.*endpoint_url"):
        store.read("key")


@pytest.mark.parametrize("checksums", ["auto", "when_required", "when_supported"])
def test_every_checksum_mode_is_understood(s3_server: S3Server, tmp_path: Path, checksums: str) -> None:
    store = s3_store(s3_server, checksums=checksums)
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PART_BYTES + 1))
    store.check_writable()
    store.upload("epoch_0.pth", path, sha256=sha256_of(path))
    store.download("epoch_0.pth", tmp_path / "back", sha256=sha256_of(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint_url": "127.0.0.1:9000"}, "must start with http"),
        ({"endpoint_url": "http://me:secret@127.0.0.1:9000"}, "contains a user name or password"),
        ({"ca_bundle": "/no/such.pem"}, "there is no file /no/such.pem"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_sent(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_store(StoreConfig(uri="s3://runs", **changes))
    assert "secret" not in str(caught.value)


def test_a_certificate_of_ones_own_authority_works_with_ca_bundle_and_else_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_rclone_tls(tmp_path) as (server, certificate):
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreError, match=r"an unknown authority: set store\.ca_bundle") as caught:
            s3_store(server).read("key")
        assert not isinstance(caught.value, StoreUnreachableError)
        trusting = s3_store(server, ca_bundle=str(certificate))
        path = tmp_path / "file"
        path.write_bytes(os.urandom(PART_BYTES + 1))
        trusting.upload("epoch_0.pth", path, sha256=sha256_of(path))
        trusting.download("epoch_0.pth", tmp_path / "back", sha256=sha256_of(path))


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchKey", 404, "is not an S3 server"),
        ("NoSuchBucket", 404, "bucket 'b' does not exist at there: create it"),
        ("ExpiredToken", 400, "refused the credentials"),
        ("RequestTimeTooSkewed", 403, "clock is wrong"),
        ("PermanentRedirect", 301, "set store.region"),
        ("AccessDenied", 403, "s3:PutObject"),
        ("NotImplemented", 501, "set store.checksums to when_required"),
        ("EntityTooLarge", 400, r"EntityTooLarge, HTTP status 400"),
    ],
)
def test_refusals_say_what_to_do(code: str, status: int, expected: str) -> None:
    error = explain_refusal(code, status, address="s3://b/k", bucket="b", server="there", doing="write")
    assert expected in str(error)


def test_the_log_of_boto3_shows_no_secret(s3_server: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    s3_store(s3_server).write("key", b"value")
    assert s3_server.secret_key not in caplog.text


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_key_pair_is_named(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    store = s3_store(s3_server)
    monkeypatch.delenv(missing)
    with pytest.raises(
        StoreError, match="incomplete key pair: AWS_SECRET_ACCESS_KEY" if "SECRET" in missing else "credentials"
    ):
        list(store.list())


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_a_key_with_a_line_break_is_named_at_once(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str, end: str
) -> None:
    """As a Secret has it that was made with echo: it is refused as another key, or cannot even be sent."""
    monkeypatch.setenv(variable, f"a{end}")
    with pytest.raises(StoreError, match=f"^{variable} begins or ends with a line break or a space"):
        list(s3_store(s3_server).list())


def with_role(monkeypatch: pytest.MonkeyPatch, token: Path) -> None:
    """As a service account that is bound to a role has it (IRSA)."""
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/video")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")


def test_a_roles_token_that_is_not_there_is_named(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_role(monkeypatch, tmp_path / "token")
    with pytest.raises(StoreError, match=r"the token \S+/token in AWS_WEB_IDENTITY_TOKEN_FILE cannot be read"):
        list(s3_store(s3_server).list())


def test_a_server_of_credentials_that_does_not_answer_is_not_taken_for_the_store(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("token")
    with_role(monkeypatch, tmp_path / "token")
    store = open_store(s3_server.config("team"), retry=QUICK)
    with pytest.raises(StoreUnreachableError, match=r"^http://127\.0\.0\.1:9, which provides a role's credentials"):
        list(store.list())


@pytest.mark.parametrize(
    ("asked", "server"),
    [
        ("https://sts.eu-west-1.amazonaws.com/", "https://sts.eu-west-1.amazonaws.com"),
        ("https://roles.example:8443/?Action=x", "https://roles.example:8443"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/k", None),
        ("https://minio.example/bucket/k", None),
        ("", None),
    ],
)
def test_the_server_of_roles_is_recognised(monkeypatch: pytest.MonkeyPatch, asked: str, server: str | None) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "https://roles.example:8443")
    assert server_of_roles(EndpointConnectionError(endpoint_url=asked)) == server


def test_a_server_without_tls_and_a_bundle_without_certificates_are_named_at_once(
    s3_server: S3Server, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("no certificate\n")
    secure = s3_server.endpoint_url.replace("http://", "https://")
    for settings, message in (({}, "does not speak TLS"), ({"ca_bundle": str(bundle)}, "without PEM certificates")):
        store = open_store(replace(s3_server.config("team"), endpoint_url=secure, **settings), retry=QUICK)
        with pytest.raises(StoreError, match=message):
            list(store.list())
