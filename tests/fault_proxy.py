"""An HTTP proxy in front of a real S3 server that lets requests fail as networks and servers do.

    with FaultProxy(server.endpoint_url, seed=1, rates={"error_503": 0.1, "lost_answer": 0.05}) as proxy:
        proxy.script("reset", "", "truncated")  # the next three requests: fails, passes, fails
        store = open_store(server.config(endpoint_url=proxy.url))

Faults are drawn from a seeded generator, in the order in which requests arrive.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = {
    "error_500": "answer 500 without asking the server",
    "error_503": "answer 503 SlowDown without asking the server",
    "reset": "reset the connection before the server hears of the request",
    "lost_answer": "let the server do it, then reset the connection instead of answering",
    "truncated": "send the answer's headers and half of its body, then close",
    "slow": "wait before the second half of the answer's body",
    "drip": "send the answer's body byte by byte, without ever coming to its end",
    "drip_headers": "send the answer's headers byte by byte, without ever coming to their end",
    "damaged_request": "flip a bit of the request's body",
    "damaged_answer": "flip a bit of the answer's body",
}
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection"}


Instead = Callable[[str, str], tuple[int, dict[str, str], bytes] | None]


class FaultProxy:
    """Forwards to one server. ``counts`` says which faults were injected, ``requests`` what was asked."""

    def __init__(
        self,
        upstream_url: str,
        *,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        only: Callable[[str, str], bool] = lambda method, path: True,
        slow_sec: float = 0.2,
        drip_sec: float = 0.02,
        instead: Instead = lambda method, path: None,
        resign: Callable[[str, str, bytes, dict[str, str]], tuple[str, dict[str, str]]] | None = None,
    ) -> None:
        """Args: rates, chance of each fault per request; only, method and path that faults may hit; instead, gives
        status, headers and body of what is answered without asking the server; resign, gives path and headers under
        which a request goes to the server."""
        split = urlsplit(upstream_url)
        self.upstream = (split.hostname or "", split.port or 80)
        self.rates, self.only = dict(rates or {}), only
        self.slow_sec, self.drip_sec = slow_sec, drip_sec
        self.instead, self.resign = instead, resign
        self.down = False
        """While set, every connection is reset."""
        self.ended = threading.Event()
        """Set at the end of the ``with`` block: no answer goes on, since its thread would go on in later tests."""
        self.counts: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self._random, self._script, self._lock = random.Random(seed), deque[str](), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def script(self, *faults: str) -> None:
        """What happens to the next requests that ``only`` admits, "" for nothing; then the rates hold again."""
        assert all(fault in FAULTS or not fault for fault in faults)
        self._script.extend(faults)

    def draw(self, method: str, path: str) -> str:
        """The fault of one request, or ""."""
        with self._lock:
            self.requests.append((method, path))
            if not self.only(method, path):
                return ""
            if self.down:
                return "reset"
            fault = self._script.popleft() if self._script else self._roll()
            self.counts[fault] += 1
            return fault

    def _roll(self) -> str:
        left = self._random.random()
        for fault, rate in self.rates.items():
            left -= rate
            if left < 0:
                return fault
        return ""

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: FaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; see tests/k8s/fake_api.py
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = proxy.draw(self.command, self.path)
        if (answer := proxy.instead(self.command, self.path)) is not None:
            self._say(*answer)
        elif fault == "reset":
            self._reset()
        elif fault in ("error_500", "error_503"):
            self._refuse(int(fault[-3:]))
        else:
            self._forward(_damage(body) if fault == "damaged_request" else body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _forward(self, body: bytes, fault: str) -> None:
        proxy = self.server.proxy
        upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
        try:
            path, headers = self.path, dict(self.headers.items())
            if proxy.resign is not None:
                path, headers = proxy.resign(self.command, path, body, headers)
            upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() not in HOP_HEADERS:
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            self._reset()
            return
        finally:
            upstream.close()
        if fault == "lost_answer":
            self._reset()
            return
        if fault == "damaged_answer" and answer.status < 300:
            data = _damage(data)
        self._answer(answer, data, fault)

    def _answer(self, answer: http.client.HTTPResponse, data: bytes, fault: str) -> None:
        if fault == "drip_headers":
            self._drip(b"HTTP/1.1 200 OK\r\nx-endless: " + b"x" * 60_000)
            return
        self.send_response_only(answer.status)
        length = answer.headers.get("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
        for name, value in answer.headers.items():
            if name.lower() not in HOP_HEADERS | {"content-length"}:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if fault == "drip":
            self._drip(data[:-1])
            return
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        if fault == "truncated":
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "slow" and self.server.proxy.ended.wait(self.server.proxy.slow_sec):
            self.close_connection = True
            return
        self.wfile.write(data[half:])

    def _drip(self, data: bytes) -> None:
        """Until the client has had enough."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.proxy.ended.wait(self.server.proxy.drip_sec):
                    return

    def _refuse(self, status: int) -> None:
        code = {500: "InternalError", 503: "SlowDown"}[status]
        self._say(
            status, {}, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        )

    def _say(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in {"Date": self.date_time_string(), "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _reset(self) -> None:
        """Close with a reset rather than in order."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _damage(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data
