"""Variables and profiles of AWS: what this machine's client takes from them reaches processes that have neither."""

from pathlib import Path

import pytest

from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, StoreError
from tsp.store.s3.aws_settings import own_ca_bundle, source_of_credentials, with_aws_settings

PROFILES = """
[default]
region = us-west-2
[profile team]
region = eu-west-3
endpoint_url = https://minio.example
[profile services]
services = ours
[services ours]
s3 =
  endpoint_url = https://s3.example
[profile leaky]
endpoint_url = https://me:hidden@minio.example
"""
STORE = StoreConfig(uri="s3://bucket/runs")


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration file of AWS, and no variables but that."""
    import os

    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "config").write_text(PROFILES)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    ("variables", "endpoint_url", "region"),
    [
        ({}, None, "us-west-2"),
        ({"AWS_PROFILE": "team"}, "https://minio.example", "eu-west-3"),
        ({"AWS_DEFAULT_PROFILE": "team"}, "https://minio.example", "eu-west-3"),
        ({"AWS_PROFILE": "services"}, "https://s3.example", None),
        ({"AWS_PROFILE": "team", "AWS_DEFAULT_REGION": "eu-1"}, "https://minio.example", "eu-1"),
        ({"AWS_ENDPOINT_URL_S3": "https://s3.a", "AWS_ENDPOINT_URL": "https://b"}, "https://s3.a", "us-west-2"),
        ({"AWS_ENDPOINT_URL": "https://b"}, "https://b", "us-west-2"),
        ({"AWS_ENDPOINT_URL": "https://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None, "us-west-2"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://s3.dualstack.us-west-2.amazonaws.com", "us-west-2"),
    ],
)
def test_what_boto3_takes_from_the_environment_is_carried_over(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint_url: str | None, region: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = with_aws_settings(STORE)
    assert (found.endpoint_url, found.region) == (endpoint_url, region)
    # Somewhere without these variables the settings alone lead to the same place.
    for name in [*variables, "AWS_CONFIG_FILE"]:
        monkeypatch.delenv(name)
    assert with_aws_settings(found) == found


def test_settings_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "team")
    own = StoreConfig(uri="s3://bucket/runs", endpoint_url="https://own", region="r")
    assert with_aws_settings(own) == own
    assert with_aws_settings(StoreConfig(uri="/store")) == StoreConfig(uri="/store")


def test_a_profile_that_does_not_exist_or_holds_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match="check AWS_PROFILE"):
        with_aws_settings(STORE)
    monkeypatch.setenv("AWS_PROFILE", "leaky")
    with pytest.raises(ConfigError) as refused:
        with_aws_settings(STORE)
    assert "hidden" not in str(refused.value)


def test_credentials_are_named_by_their_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_of_credentials() is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    assert source_of_credentials() == "AWS_ACCESS_KEY_ID"
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert source_of_credentials() == "AWS_PROFILE"


def test_only_an_authority_of_ones_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    assert own_ca_bundle(STORE) is None
    monkeypatch.setenv("AWS_CA_BUNDLE", "/home/me/ca.pem")
    assert own_ca_bundle(STORE) == "/home/me/ca.pem"
    assert own_ca_bundle(StoreConfig(uri="s3://b/x", ca_bundle="/own.pem")) == "/own.pem"
