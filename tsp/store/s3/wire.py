"""Minimal HTTP/1.1 to one server: one request, one complete response.

The problem: for small objects the HTTP library takes more time than the server, since every request holds the GIL;
large objects are copied through its buffers; and its timeouts are per read, so a server that sends a byte a minute
blocks a program forever. Here a request is one or two calls of ``send``, a body is received directly into its
destination, and both must make progress (``PACE_BYTES`` every ``PACE_SEC``).

Invariants: a response is complete, by its length or its chunks, or WireError is raised; a connection whose response was
not read to its end is never reused. The only retry is for a kept connection that the server had closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECT_SEC = 10.0
PACE_SEC = 60.0
PACE_BYTES = 64 << 10
"""What a body must bring, at least, every ``PACE_SEC``; nothing at all may be waited for longer than that."""
_RECEIVE_BYTES = 64 << 10
_MAX_HEAD_BYTES = 64 << 10
_HEAD_END, _LINE_END = b"\r\n\r\n", b"\r\n"
_ONE_SEND_BYTES = 64 << 10
"""A body up to this size is sent together with its headers."""


class WireError(Exception):
    """There is no complete response: refused, truncated, stalled, or not understood."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes | memoryview
    """The buffer that was given, as far as it was filled, if there was one."""


class Wire:
    """Connections to one server, kept while they work. Safe to use from several threads, but not after a fork."""

    def __init__(self, url: str, *, ca_file: str | None = None) -> None:
        """Args: url, http:// or https:// and a host; ca_file, PEM of the authorities to trust, None for the usual."""
        split = urlsplit(url)
        self.host, self.is_secure = split.netloc, split.scheme == "https"
        self._address = (split.hostname or "", split.port or (443 if self.is_secure else 80))
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._kept: list[_Connection] = []

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | memoryview = b"",
        *,
        into: memoryview | None = None,
    ) -> Answer:
        """Send a request and read its response.

        Args: target, path and query, encoded; into, where the body of a success goes if it fits.
        Raises: WireError.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {target} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
        with contextlib.suppress(IndexError, _ClosedError):
            return self._exchange(self._kept.pop(), method, head, body, into)
        try:
            return self._exchange(self._connect(), method, head, body, into)
        except _ClosedError as error:
            raise WireError("closed without an answer") from error

    def _exchange(
        self, connection: _Connection, method: str, head: bytes, body: bytes | memoryview, into: memoryview | None
    ) -> Answer:
        try:
            connection.send(head, body)
            answer, may_stay = connection.receive(has_body=method != "HEAD", into=into)
        except BaseException as error:
            connection.close()
            if isinstance(error, ConnectionError) and not connection.has_received:
                raise _ClosedError from error
            if isinstance(error, OSError | ValueError):
                raise WireError(type(error).__name__) from error
            raise
        if may_stay:
            self._kept.append(connection)
        else:
            connection.close()
        return answer

    def _connect(self) -> _Connection:
        try:
            sock = socket.create_connection(self._address, timeout=CONNECT_SEC)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.is_secure:
                self._tls = self._tls or ssl.create_default_context(cafile=self._ca_file)
                sock = self._tls.wrap_socket(sock, server_hostname=self._address[0])
        except (OSError, ValueError) as error:
            raise WireError(type(error).__name__) from error
        return _Connection(sock)


class _ClosedError(Exception):
    """The connection was closed before any byte of a response, as servers do with kept connections."""


class _Pace:
    """Checks that bytes keep arriving: a minimum in each time span, or the next wait is shortened."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._began, self._bytes = time.monotonic(), 0
        sock.settimeout(PACE_SEC)

    def moved(self, num_bytes: int) -> None:
        """Record received or sent bytes. Raises: TimeoutError if they are too few."""
        self._bytes += num_bytes
        now = time.monotonic()
        if now - self._began > PACE_SEC:
            if self._bytes < PACE_BYTES:
                raise TimeoutError
            self._began, self._bytes = now, 0


class _Connection:
    """One connection, used for one request at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received, self._at = b"", 0
        self.has_received = False
        """Whether anything of the present answer came."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def send(self, head: bytes, body: bytes | memoryview) -> None:
        self.has_received = False
        pace = _Pace(self._sock)
        whole = len(body) <= _ONE_SEND_BYTES
        for data in (memoryview(head + bytes(body)),) if whole else (memoryview(head), memoryview(body)):
            left = data
            while left:
                # Not sendall: its timeout is for all of the data.
                num_sent = self._sock.send(left)
                pace.moved(num_sent)
                left = left[num_sent:]

    def receive(self, *, has_body: bool, into: memoryview | None) -> tuple[Answer, bool]:
        """The answer, and whether the connection can be used again."""
        pace = _Pace(self._sock)
        status, may_stay = 100, True
        headers: dict[str, str] = {}
        while 100 <= status < 200:
            first, *lines = self._until(_HEAD_END, pace).decode("latin-1").split("\r\n")
            protocol, code = first.split(" ", 2)[:2]
            status, headers = int(code), {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            may_stay = protocol == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        if not has_body or status in (204, 304):
            return Answer(status, headers, b""), may_stay
        if "content-encoding" in headers:
            raise ValueError("encoded")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Answer(status, headers, self._chunks(pace)), may_stay
        size_bytes = int(headers["content-length"]) if "content-length" in headers else -1
        if size_bytes < 0:
            raise ValueError("no length")
        fits = into is not None and status < 300 and size_bytes <= len(into)
        body = into[:size_bytes] if into is not None and fits else memoryview(bytearray(size_bytes))
        self._fill(body, pace)
        return Answer(status, headers, body if fits else bytes(body)), may_stay

    def _chunks(self, pace: _Pace) -> bytes:
        whole = bytearray()
        while size_bytes := int(self._until(_LINE_END, pace).partition(b";")[0], 16):
            part = memoryview(bytearray(size_bytes))
            self._fill(part, pace)
            whole += part
            self._until(_LINE_END, pace)
        while self._until(_LINE_END, pace):
            pass  # trailers
        return bytes(whole)

    def _until(self, end: bytes, pace: _Pace) -> bytes:
        """The bytes before an end mark, which is skipped."""
        while (at := self._received.find(end, self._at)) < 0:
            self._received = self._received[self._at :]
            self._at = 0
            if len(self._received) > _MAX_HEAD_BYTES:
                raise ValueError("endless")
            self._received += self._some(pace)
        found = self._received[self._at : at]
        self._at = at + len(end)
        return found

    def _some(self, pace: _Pace) -> bytes:
        data = self._sock.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionError
        self.has_received = True
        pace.moved(len(data))
        return data

    def _fill(self, view: memoryview, pace: _Pace) -> None:
        known = self._received[self._at : self._at + len(view)]
        view[: len(known)] = known
        self._at += len(known)
        left = view[len(known) :]
        while left:
            num_bytes = self._sock.recv_into(left)
            if not num_bytes:
                raise ConnectionError
            pace.moved(num_bytes)
            left = left[num_bytes:]


def forbids_proxies(url: str) -> bool:
    """Whether no proxy of the environment applies to an address."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return True
    from urllib.request import getproxies, proxy_bypass

    split = urlsplit(url)
    proxies = getproxies()
    return not (proxies.get(split.scheme) or proxies.get("all")) or bool(proxy_bypass(split.hostname or ""))
