"""Requests without boto3: to whom, with which credentials, and in which words."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.credentials import EnvProvider
from botocore.exceptions import PartialCredentialsError

from tsp.store.s3 import quick
from tsp.store.s3.quick import KeyPair, Quick, environment_pair
from tsp.store.s3.wire import Answer, WireError

PAIR = KeyPair("key", "secret", "token")
NAMES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
)


class RecordingWire:
    """Keeps what is asked."""

    host = "host:9000"

    def __init__(self, url: str, *, ca_file: str | None) -> None:
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, into: Any) -> Answer:
        if "broken" in target:
            raise WireError("closed")
        self.asked.append((method, target, headers, body))
        return Answer(200, {}, b"")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Quick:
    monkeypatch.setattr(quick, "Wire", RecordingWire)
    return Quick("a bucket", "http://host:9000", "us-east-1", None, lambda: PAIR)


def asked(requests: Quick, *args: Any, **kwargs: Any) -> tuple[str, str, Mapping[str, str], bytes]:
    assert requests.ask(*args, **kwargs) is not None
    return requests._wire.asked[-1]


@pytest.mark.parametrize(
    ("key", "query", "target"),
    [
        ("run/a b.pth", None, "/a%20bucket/run/a%20b.pth"),
        ("", {"prefix": "a/b c", "list-type": "2"}, "/a%20bucket?list-type=2&prefix=a%2Fb%20c"),
        ("k", {"uploads": ""}, "/a%20bucket/k?uploads="),
        ("", None, "/a%20bucket"),
    ],
)
def test_an_address_is_bucket_key_and_sorted_query(
    requests: Quick, key: str, query: dict[str, str] | None, target: str
) -> None:
    assert asked(requests, "GET", key, query=query)[:2] == ("GET", target)


def test_own_headers_are_sent_and_signed_and_a_body_is_not_hashed_twice(requests: Quick) -> None:
    _, _, headers, body = asked(requests, "PUT", "k", headers={"content-md5": "abc=="}, body=b"x")
    assert (headers["content-md5"], body) == ("abc==", b"x")
    assert "SignedHeaders=content-md5;host;" in headers["authorization"]
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes, as everywhere
    assert asked(requests, "GET", "k")[2]["x-amz-content-sha256"] == empty


def test_without_credentials_or_answer_there_is_nothing_and_boto3_explains_why(requests: Quick) -> None:
    assert requests.ask("GET", "broken") is None
    requests._key_pair = lambda: None
    assert requests.ask("GET", "k") is None


@pytest.mark.parametrize(
    ("url", "is_direct"),
    [
        ("http://host", True),
        ("https://host:9000/", True),
        ("http://host/path", False),
        ("http://host/a/b/", False),
        ("host", False),
        ("host/path", False),
    ],
)
def test_only_a_server_with_neither_path_nor_proxy_is_asked_directly(
    url: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "forbids_proxies", lambda url: True)
    assert Quick.can_reach(url) is is_direct
    monkeypatch.setattr(quick, "forbids_proxies", lambda url: False)
    assert not Quick.can_reach(url)


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("names", [names for size in range(6) for names in itertools.combinations(NAMES, size)])
def test_the_credentials_of_the_environment_are_botocores_unless_they_expire(
    names: tuple[str, ...], is_empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that expire are left to botocore, which refreshes them."""
    for name in NAMES:
        monkeypatch.setenv(name, f"value of {name}" if name in names else "")
        if name not in names and not is_empty:
            monkeypatch.delenv(name)
    ours = environment_pair()
    if "AWS_CREDENTIAL_EXPIRATION" in names:
        assert ours is None
        return
    try:
        found = EnvProvider().load()
    except PartialCredentialsError:
        found = None
    assert ours == (None if found is None else KeyPair(found.access_key, found.secret_key, found.token))
