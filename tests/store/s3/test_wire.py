"""Answers as servers may send them: whole, or an error; never a part, never the next request's."""

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tsp.store.s3 import wire
from tsp.store.s3.quick import KeyPair, sign
from tsp.store.s3.wire import Wire, WireError, forbids_proxies

Serve = Callable[..., Wire]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A wire to a server that gives these answers, one a request; None closes the connection instead."""
    with contextlib.ExitStack() as stack:

        def start(*answers: bytes | None) -> Wire:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            left = list(answers)

            def work() -> None:
                with contextlib.suppress(OSError):
                    while left:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(ConnectionError):
                            while connection.recv(65536) and left:
                                answer = left.pop(0)
                                if answer is None:
                                    break
                                connection.sendall(answer)
                                if b"Connection: close" in answer or b"Content-Length: 9\r\n\r\nshort" in answer:
                                    break

            threading.Thread(target=work, daemon=True).start()
            return Wire(f"http://127.0.0.1:{listener.getsockname()[1]}")

        yield start


OK = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "x"\r\n\r\nwhole'


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nwh\r\n3\r\nole\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 200\r\ncontent-length:5\r\nConnection: close\r\n\r\nwhole",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole",
    ],
)
def test_an_answer_is_read_whole_and_the_next_one_is_another(serve: Serve, answer: bytes) -> None:
    wire = serve(answer, OK.replace(b"whole", b"other"))
    assert bytes(wire.ask("GET", "/a", {}).body) == b"whole"
    assert bytes(wire.ask("GET", "/b", {}).body) == b"other"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\nConnection: close\r\n\r\n",
        b"no HTTP; Connection: close\r\n\r\n",
        b"x" * 200_000 + b"Connection: close",
    ],
)
def test_an_answer_that_is_not_whole_or_not_understood_is_an_error_and_its_connection_is_left(
    serve: Serve, answer: bytes
) -> None:
    wire = serve(answer, OK)
    with pytest.raises(WireError):
        wire.ask("GET", "/a", {})
    assert bytes(wire.ask("GET", "/b", {}).body) == b"whole"


def test_a_kept_connection_that_the_server_closed_is_replaced_and_a_new_one_is_not(serve: Serve) -> None:
    wire = serve(OK, None, OK, None, None)
    assert [bytes(wire.ask("GET", "/a", {}).body) for _ in range(2)] == [b"whole", b"whole"]
    with pytest.raises(WireError):
        wire.ask("GET", "/a", {})


def test_a_request_whose_answer_broke_off_is_not_sent_again_over_another_connection(serve: Serve) -> None:
    wire = serve(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", OK)
    wire.ask("GET", "/a", {})
    with pytest.raises(WireError):
        wire.ask("POST", "/a", {})
    assert bytes(wire.ask("GET", "/b", {}).body) == b"whole"


def test_a_body_goes_where_it_is_wanted_and_an_error_does_not(serve: Serve) -> None:
    wire = serve(OK, OK.replace(b"200 OK", b"404 Not Found"), OK)
    for size, body in ((8, b"whole\0\0\0"), (8, b"\0" * 8), (4, b"\0" * 4)):
        buffer = bytearray(size)
        assert bytes(wire.ask("GET", "/a", {}, into=memoryview(buffer)).body) == b"whole"
        assert buffer == body


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_that_has_no_body_needs_no_length(serve: Serve, status: bytes) -> None:
    wire = serve(b"HTTP/1.1 " + status + b"\r\n\r\n", OK)
    assert bytes(wire.ask("DELETE", "/a", {}).body) == b""
    assert bytes(wire.ask("GET", "/b", {}).body) == b"whole"


@pytest.mark.parametrize("length", [b"", b"Content-Length: -1\r\n"])
def test_a_body_without_a_length_goes_nowhere(serve: Serve, length: bytes) -> None:
    wire, buffer = serve(b"HTTP/1.1 200 OK\r\n" + length + b"Connection: close\r\n\r\nwhole"), bytearray(6)
    with pytest.raises(WireError):
        wire.ask("GET", "/a", {}, into=memoryview(buffer))
    assert buffer == bytes(6)


class Pieces:
    """A socket that takes a thousand bytes at most by each call, and notes the calls."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.offered: list[int] = []

    def settimeout(self, timeout_sec: float) -> None:
        """As a socket's."""

    def send(self, data: memoryview) -> int:
        self.offered.append(len(data))
        self.sent.append(bytes(data[:40_000]))
        return len(self.sent[-1])


@pytest.mark.parametrize(
    ("size", "offered"),
    [
        (0, [4]),
        (10, [14]),
        (64 << 10, [(64 << 10) + 4, (64 << 10) + 4 - 40_000]),
        ((64 << 10) + 1, [4, (64 << 10) + 1, (64 << 10) + 1 - 40_000]),
    ],
)
def test_a_small_body_goes_with_its_headers_and_a_larger_one_is_not_copied(size: int, offered: list[int]) -> None:
    pieces, body = Pieces(), random.Random(0).randbytes(size)
    wire._Connection(pieces).send(b"head", body)
    assert (b"".join(pieces.sent), pieces.offered) == (b"head" + body, offered)


class Clock:
    """The time of a test."""

    now_sec = 1000.0

    def monotonic(self) -> float:
        return self.now_sec


@pytest.mark.parametrize(
    ("pace", "is_enough"),
    [
        ([(60.0, 1)], True),
        ([(60.5, 65_535)], False),
        ([(60.5, 65_536)], True),
        ([(30.0, 40_000), (31.0, 25_536)], True),
        ([(30.0, 40_000), (31.0, 25_535)], False),
        ([(61.0, 70_000), (60.0, 1), (1.0, 1)], False),
        ([(61.0, 70_000), (60.0, 65_000), (1.0, 536)], True),
    ],
)
def test_64_kibibytes_must_move_in_each_minute(
    pace: list[tuple[float, int]], is_enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, pieces = Clock(), Pieces()
    monkeypatch.setattr(wire, "time", clock)
    waits: list[float] = []
    pieces.settimeout = waits.append
    watched = wire._Pace(pieces)
    assert waits == [60], "nothing at all is waited for as long, too"

    def move() -> None:
        for seconds, num_bytes in pace:
            clock.now_sec += seconds
            watched.moved(num_bytes)

    if is_enough:
        move()
    else:
        with pytest.raises(TimeoutError):
            move()


@pytest.mark.parametrize(
    ("url", "address", "is_secure"),
    [
        ("http://host", ("host", 80), False),
        ("https://host", ("host", 443), True),
        ("https://host:9000", ("host", 9000), True),
        ("http://host:9000", ("host", 9000), False),
        ("http://[::1]:9000", ("::1", 9000), False),
    ],
)
def test_a_server_is_asked_at_its_port_or_that_of_its_scheme(
    url: str, address: tuple[str, int], is_secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, object]] = []

    def connect(to: object, timeout: float) -> None:
        asked.append((to, timeout))
        raise OSError

    monkeypatch.setattr(wire.socket, "create_connection", connect)
    found = Wire(url)
    with pytest.raises(WireError):
        found.ask("GET", "/", {})
    assert (asked, found.is_secure, found.host) == ([(address, 10)], is_secure, url.partition("//")[2])


def test_a_head_has_a_length_and_no_body(serve: Serve) -> None:
    wire = serve(OK.removesuffix(b"whole"), OK)
    assert wire.ask("HEAD", "/a", {}).headers["content-length"] == "5"
    assert bytes(wire.ask("GET", "/a", {}).body) == b"whole"


@pytest.mark.parametrize("token", [None, "a/token=="])
@pytest.mark.parametrize("query", ["", "list-type=2&prefix=a%2Fb%20c"])
def test_signatures_are_botocores(token: str | None, query: str) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    headers = {"content-md5": "abc==", "x-amz-meta-sha256": "0" * 64}
    ours = sign(
        "PUT", "host:9000", "/b/a%20b", query, headers, "UNSIGNED-PAYLOAD", "us-east-1", KeyPair("key", "secret", token)
    )
    url = f"http://host:9000/b/a%20b{'?' if query else ''}{query}"
    request = AWSRequest("PUT", url, headers={**headers, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    signer = S3SigV4Auth(Credentials("key", "secret", token), "s3", "us-east-1")
    signer.payload = lambda request: "UNSIGNED-PAYLOAD"
    scope = f"{ours['x-amz-date'][:8]}/us-east-1/s3/aws4_request"
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert ours["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential=key/{scope}, ")
    assert ours["authorization"].endswith(f"Signature={signature}")


@pytest.mark.parametrize(
    ("url", "environment", "direct"),
    [
        ("http://s:9000", {}, True),
        ("http://s:9000", {"http_proxy": "http://p"}, False),
        ("https://s:9000", {"http_proxy": "http://p"}, True),
        ("https://s:9000", {"HTTPS_PROXY": "http://p"}, False),
        ("http://s:9000", {"all_proxy": "http://p"}, False),
        ("http://s:9000", {"all_proxy": "http://p", "http_proxy": "http://q"}, False),
        ("http://s:9000", {"http_proxy": "http://p", "no_proxy": "s"}, True),
        ("http://s:9000", {"http_proxy": "http://p", "no_proxy": "t"}, False),
        ("http://s:9000", {"no_proxy": "t"}, True),
    ],
)
def test_a_server_is_reached_directly_unless_a_proxy_is_meant_for_it(monkeypatch, url, environment, direct) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert forbids_proxies(url) is direct
