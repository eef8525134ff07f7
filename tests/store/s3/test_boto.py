"""The client of boto3: what it is told, by what it answers about itself, and what is refused before."""

from pathlib import Path

import pytest

from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, StoreError
from tsp.store.open import open_store
from tsp.store.s3.boto import check_settings, make_client


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables or files of AWS but those of a test."""
    import os

    for variable in [name for name in os.environ if name.startswith("AWS_") or name == "REQUESTS_CA_BUNDLE"]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


def store(**settings: object) -> StoreConfig:
    return StoreConfig(uri="s3://bucket/runs", region="us-east-1", **settings)


def test_waits_and_connections_are_bounded_and_only_we_repeat_a_request() -> None:
    settings = make_client(store()).meta.config
    assert (settings.connect_timeout, settings.read_timeout) == (10, 60)
    assert settings.retries["total_max_attempts"] == 1
    assert settings.tcp_keepalive is True, "firewalls forget connections that are silent"
    assert settings.max_pool_connections == 32


@pytest.mark.parametrize(
    ("checksums", "sent"),
    [("auto", "when_required"), ("when_required", "when_required"), ("when_supported", "when_supported")],
)
def test_checksums_that_old_servers_refuse_are_sent_only_where_asked_for(checksums: str, sent: str) -> None:
    settings = make_client(store(checksums=checksums)).meta.config
    assert settings.request_checksum_calculation == settings.response_checksum_validation == sent


@pytest.mark.parametrize(
    ("path_style", "url"),
    [(True, "https://s3.example/bucket/key"), (False, "https://bucket.s3.example/key")],
)
def test_the_bucket_is_in_the_path_or_in_the_name_of_the_host(
    path_style: bool, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = make_client(store(path_style=path_style, endpoint_url="https://s3.example"))
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert signed.partition("?")[0] == url


def test_authorities_of_ones_own_are_read_from_the_file_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.pem").touch()
    for named, trusted in (("~/own.pem", str(tmp_path / "own.pem")), (None, True)):
        config = store(ca_bundle=named, endpoint_url="https://s3.example")
        check_settings(config)
        assert make_client(config)._endpoint.http_session._verify == trusted


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({}, None),
        ({"endpoint_url": "http://host"}, None),
        ({"endpoint_url": "https://host:9000/path"}, None),
        ({"endpoint_url": "ftp://host"}, "must start with http:// or https://"),
        ({"endpoint_url": "host:9000"}, "must start with http:// or https://"),
        ({"endpoint_url": "http://"}, "and name a host"),
        ({"endpoint_url": "http://:9000"}, "and name a host"),
        ({"endpoint_url": "http://host/?a=b"}, r"leave '\?' and '#' out"),
        ({"endpoint_url": "http://host/#b"}, r"leave '\?' and '#' out"),
        ({"ca_bundle": "~/none.pem"}, "there is no file ~/none.pem"),
    ],
)
def test_an_endpoint_is_an_address_of_a_host(
    settings: dict[str, str], refused: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if refused is None:
        check_settings(store(**settings))
    else:
        with pytest.raises(ConfigError, match=refused):
            check_settings(store(**settings))


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_a_password_in_a_variable_is_refused_by_the_name_of_the_variable(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "https://me:hidden@host")
    with pytest.raises(ConfigError, match=variable) as refused:
        check_settings(store())
    assert "hidden" not in str(refused.value)


def test_a_session_that_cannot_be_renewed_is_told_without_a_traceback(tmp_path, monkeypatch, caplog):
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "config").write_text(
        "[profile lab]\nsso_start_url=https://lab\nsso_region=us-east-1\nsso_account_id=1\nsso_role_name=r\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with pytest.raises(StoreError, match="aws sso login"):
        open_store(StoreConfig(uri="s3://b/p", endpoint_url="http://127.0.0.1:1")).read("k")
    assert "Traceback" not in caplog.text
    assert any(record.name.startswith("botocore") for record in caplog.records), "botocore warned"
