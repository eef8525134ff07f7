"""Answers as servers may send them: whole, or an error; never a part, never the next request's."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

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
