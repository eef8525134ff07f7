"""A bucket's requests by a clock of the test's own: when one is repeated, mentioned and given up, and who is asked."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, IncompleteReadError

from tsp.config.store import StoreConfig
from tsp.errors import StoreError, StoreUnreachableError
from tsp.store.retry import RetryPolicy
from tsp.store.s3 import client
from tsp.store.s3.client import AnsweredError, Bucket
from tsp.store.s3.quick import KeyPair

Call = Callable[..., Any]


class Clock:
    """Moves only where something takes time."""

    def __init__(self) -> None:
        self.now_sec = 7.25

    def monotonic(self) -> float:
        return self.now_sec

    def sleep(self, pause_sec: float) -> None:
        """Pauses are short beside what a server takes."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def limits_sec(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each request might have taken."""
    limits: list[float] = []

    def within(limit_sec: float, request: Call) -> Any:
        limits.append(limit_sec)
        return request()

    monkeypatch.setattr(client, "within", within)
    return limits


def bucket(**settings: Any) -> Bucket:
    config = StoreConfig(uri="s3://runs", **{"endpoint_url": "http://host", "region": "r"} | settings)
    return Bucket("runs", config, RetryPolicy(attempts=6, first_delay_sec=0.0))


def ask(request: Call, asked: Bucket | None = None, **kwargs: Any) -> Any:
    return (asked or bucket()).call(request, address="s3://runs/key", doing="read", **kwargs)


def refused(status: int, code: str = "", **headers: str) -> ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, "GetObject")


def failing(clock: Clock, each_sec: float, times: int = 99) -> Call:
    """A request that fails so often, each time after so long, and then is answered."""
    left = [EndpointConnectionError(endpoint_url="")] * times

    def request() -> str:
        if not left:
            return "answer"
        clock.now_sec += each_sec
        raise left.pop()

    return request


@pytest.mark.parametrize(
    ("each_sec", "tries"),
    [(0.0, "6 tries"), (12.0, "6 tries"), (30.0, "3 tries"), (60.0, "2 tries"), (60.5, "1 try"), (600.0, "1 try")],
)
def test_no_further_try_begins_once_a_minute_has_passed(clock: Clock, each_sec: float, tries: str) -> None:
    with pytest.raises(StoreUnreachableError, match=f"within {tries}"):
        ask(failing(clock, each_sec))


@pytest.mark.parametrize(("each_sec", "since"), [(0.0, None), (15.0, None), (15.5, "16 s"), (59.0, "59 s")])
def test_a_request_is_mentioned_when_it_has_been_repeated_for_15_seconds(
    clock: Clock, each_sec: float, since: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        assert ask(failing(clock, each_sec, times=1)) == "answer"
    said = [record.getMessage() for record in caplog.records]
    expected = f"s3://runs/key: waiting for http://host since {since} (EndpointConnectionError)"
    assert said == ([] if since is None else [expected])


def test_an_answer_may_take_two_minutes_and_one_with_megabytes_ten(limits_sec: list[float]) -> None:
    ask(lambda: None)
    ask(lambda: None, has_body=True)
    assert limits_sec == [120, 600]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(404, "NoSuchKey"), AnsweredError),
        (refused(403, "AccessDenied"), StoreError),
        (refused(503, "SlowDown"), "answer"),
        (TimeoutError(), "answer"),
        (EndpointConnectionError(endpoint_url=""), "answer"),
    ],
)
def test_a_refusal_that_is_expected_is_signalled_others_are_explained_and_faults_repeated(
    error: Exception, expected: type[Exception] | str
) -> None:
    errors = [error]

    def request() -> str:
        if errors:
            raise errors.pop()
        return "answer"

    if isinstance(expected, str):
        assert ask(request, expect=("NoSuchKey",)) == expected
    else:
        with pytest.raises(expected):
            ask(request, expect=("NoSuchKey",))


class FakeClient:
    """Counts who asks for what."""

    meta = SimpleNamespace(region_name="region of the client")

    def __init__(self, *answers: Any) -> None:
        self.answers, self.listed = list(answers), list[dict[str, Any]]()

    def list_objects_v2(self, **kwargs: Any) -> Any:
        self.listed.append(kwargs)
        return self._next()

    def head_bucket(self, **kwargs: Any) -> Any:
        return self._next()

    def _next(self) -> Any:
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[FakeClient]:
    """The clients that buckets have made."""
    made: list[FakeClient] = []

    def make(config: StoreConfig) -> FakeClient:
        made.append(FakeClient())
        return made[-1]

    monkeypatch.setattr(client, "make_client", make)
    return made


@pytest.mark.parametrize("step", [-1, 1])
def test_a_process_makes_its_own_connections_whatever_its_number(
    clients: list[FakeClient], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    own, asked = os.getpid(), bucket()
    first = asked.client, asked.quick
    assert (asked.client, asked.quick) == first
    monkeypatch.setattr(client.os, "getpid", lambda: own + step)
    assert asked.client is clients[1]
    assert asked.quick is not first[1]
    assert (asked.client, asked.quick) == (asked.client, asked.quick)


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        ({}, "r"),
        ({"region": None}, "region of the client"),
        ({"endpoint_url": None}, None),
        ({"path_style": False}, None),
        ({"endpoint_url": "http://host/path"}, None),
    ],
)
def test_a_server_of_ones_own_in_path_style_is_asked_without_boto3(
    clients: list[FakeClient], settings: dict[str, Any], region: str | None
) -> None:
    quick = bucket(**settings).quick
    assert (quick and quick._region) == region


def test_where_the_region_is_unknown_boto3_asks(clients: list[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeClient, "meta", None)
    assert bucket(region=None).quick is None


@pytest.mark.parametrize(
    ("endpoint_url", "num_asked"),
    [("http://host", 0), (None, 0), ("http://host/runs", 1), ("http://runs.host", 1), ("http://runsome.host/", 0)],
)
def test_where_the_endpoint_may_name_the_bucket_the_bucket_is_asked_for_first_and_once(
    clients: list[FakeClient], endpoint_url: str | None, num_asked: int
) -> None:
    asked = bucket(endpoint_url=endpoint_url)
    assert [ask(lambda: "answer", asked) for _ in range(2)] == ["answer"] * 2
    assert [one for made in clients for one in made.listed] == [{"Bucket": "runs", "MaxKeys": 1}] * num_asked
    assert asked.server == (endpoint_url or "AWS S3")


def test_a_bucket_that_has_answered_is_not_asked_for_again(clients: list[FakeClient]) -> None:
    asked = bucket()
    asked.client.answers = [refused(403, "AccessDenied")]
    for _ in range(2):
        asked.check_exists()
    assert len(clients[0].listed) == 1, "whoever may not list it may still use it"
    other = bucket()
    ask(lambda: None, other)
    other.check_exists()
    assert len(clients) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 499])
def test_the_clock_of_the_server_is_read_from_a_refusal_too(clients: list[FakeClient], status: int) -> None:
    asked = bucket()
    asked.client.answers = [refused(status, date="Wed, 02 Jan 2030 03:04:05 GMT")]
    assert asked.now() == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("status", [500, 503])
def test_the_clock_of_a_server_that_fails_is_asked_for_again(clients: list[FakeClient], status: int) -> None:
    asked = bucket()
    answer = {"ResponseMetadata": {"HTTPHeaders": {"date": "Wed, 02 Jan 2030 03:04:05 GMT"}}}
    asked.client.answers = [refused(status, date="Tue, 01 Jan 2030 00:00:00 GMT"), answer]
    assert asked.now().day == 2


def test_credentials_are_the_environments_or_those_that_boto3_finds(
    clients: list[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    asked, pair = bucket(), KeyPair("key", "secret", None)
    assert asked.key_pair() is None
    credentials = SimpleNamespace(get_frozen_credentials=lambda: pair)
    asked.client._request_signer = SimpleNamespace(_credentials=credentials)
    assert asked.key_pair() == pair
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "own")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own secret")
    assert asked.key_pair() == KeyPair("own", "own secret", None)


def test_authorities_are_those_of_the_settings_then_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "own.pem").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    found = [bucket().ca_file()]
    for value in ("", "/their.pem"):
        monkeypatch.setenv("AWS_CA_BUNDLE", value)
        found.append(bucket().ca_file())
    found.append(bucket(ca_bundle="~/own.pem").ca_file())
    assert found == [None, None, "/their.pem", str(tmp_path / "own.pem")]


WHOLE = b"whole body" * 100


@pytest.mark.parametrize(
    "blocks",
    [(), (b"",), (WHOLE,), (WHOLE[:3], b"", WHOLE[3:700], WHOLE[700:]), (WHOLE, b"and more"), (WHOLE[:500], WHOLE * 2)],
)
def test_a_body_fills_its_destination_and_no_more(blocks: tuple[bytes, ...]) -> None:
    size = min(len(b"".join(blocks)), 1000)
    buffer, read = bytearray(size), list[bytes]()

    def reading() -> Iterator[bytes]:
        for block in blocks:
            read.append(block)
            yield block

    bucket().fill(memoryview(buffer), reading())
    assert bytes(buffer) == WHOLE[:size]
    assert b"and more" not in read


@pytest.mark.parametrize("blocks", [(), (WHOLE[:2], WHOLE[2:999])])
def test_a_body_that_is_too_short_is_interrupted(blocks: tuple[bytes, ...]) -> None:
    with pytest.raises(IncompleteReadError) as error:
        bucket().fill(memoryview(bytearray(1000)), iter(blocks))
    assert error.value.kwargs == {"actual_bytes": len(b"".join(blocks)), "expected_bytes": 1000}
