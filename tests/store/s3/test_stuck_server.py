"""A server that takes connections and answers never, or a byte at a time: every request is given up after a while."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tsp.config.store import StoreConfig
from tsp.errors import StoreUnreachableError
from tsp.store.base import Store, sha256_of
from tsp.store.open import open_store
from tsp.store.retry import RetryPolicy

HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "silent": b"",
    "drips its status": None,
    "drips headers": HEAD + b"X-Never: ",
    "drips a body": HEAD + b"Content-Length: 100000\r\nLast-Modified: Sun, 29 Nov 2026 00:00:00 GMT\r\n\r\n",
    "drips chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
}
NEED_LITTLE = ("read the head", "stat", "write once", "now", "download")
"""Headers, and what arrives of a body, may be enough for these, or for a refusal; that they end counts."""
PATIENCE_SEC = 60.0
"""Of this test: far more than the fractions of a second that the client's is cut to."""


class StuckServer:
    """Accepts every connection and reads what is sent."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer, self._socket = answer, socket.create_server(("127.0.0.1", 0), backlog=64)
        self.has_headers = b"\r\n\r\n" in (answer or b"")
        self._ended = threading.Event()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(self._answer or b"")
            while not self._ended.wait(0.05):
                if self._answer != b"":
                    connection.sendall(b"a")

    def close(self) -> None:
        self._ended.set()
        self._socket.close()


@pytest.fixture(params=ANSWERS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckServer]:
    """Such a server; the client's patience is cut to fractions of a second."""
    server = StuckServer(ANSWERS[request.param])
    monkeypatch.setattr("tsp.store.s3.boto.READ_TIMEOUT_SEC", 0.3)
    monkeypatch.setattr("tsp.store.s3.wire.PACE_SEC", 0.3)
    monkeypatch.setattr("tsp.store.s3.client.ANSWER_SEC", 0.6)
    monkeypatch.setattr("tsp.store.s3.client.TRANSFER_SEC", 0.6)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    yield server
    server.close()


def operations(store: Store, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that a store asks a server for."""
    small, large = folder / "small", folder / "large"
    small.write_bytes(b"x")
    large.write_bytes(b"x" * 100)
    return {
        "read": lambda: store.read("a"),
        "read a part": lambda: store.read("a", offset_bytes=3, size_bytes=5),
        "read the head": lambda: store.read_head("a", 10),
        "write": lambda: store.write("a", b"x"),
        "write once": lambda: store.write("a", b"x", only_if_absent=True),
        "stat": lambda: store.stat("a"),
        "list": lambda: list(store.list("a/")),
        "list folders": lambda: list(store.list_folders("a")),
        "delete": lambda: store.delete("a"),
        "delete all": lambda: store.delete_all("a/"),
        "upload": lambda: store.upload("a", small, sha256=sha256_of(small)),
        "upload in parts": lambda: store.upload("a", large, sha256=sha256_of(large)),
        "download": lambda: store.download("a", folder / "down"),
        "now": store.now,
        "check": store.check_writable,
    }


@pytest.mark.parametrize("is_quick", [True, False])
def test_every_request_is_given_up(
    server: StuckServer, tmp_path: Path, is_quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_quick:
        monkeypatch.setattr("tsp.store.s3.client.Quick.can_reach", lambda url: False)
    config = StoreConfig(uri="s3://runs/team", endpoint_url=server.url, region="us-east-1")
    store = open_store(config, retry=RetryPolicy(attempts=2, first_delay_sec=0.01), part_bytes=64)

    def end_of(operation: Callable[[], object]) -> str:
        try:
            operation()
        except StoreUnreachableError:
            return "given up"
        except Exception as error:
            return repr(error)
        return "done"

    todo = operations(store, tmp_path)
    pool = ThreadPoolExecutor(len(todo))
    ends = {name: pool.submit(end_of, operation) for name, operation in todo.items()}
    deadline = time.monotonic() + PATIENCE_SEC
    found = {name: end.result(timeout=max(0.0, deadline - time.monotonic())) for name, end in ends.items()}
    pool.shutdown()
    may_end_otherwise = NEED_LITTLE if server.has_headers else ()
    assert {name: end for name, end in found.items() if end != "given up" and name not in may_end_otherwise} == {}
    assert not [end for end in found.values() if end.startswith(("KeyError", "ValueError", "TypeError"))]


def test_a_server_that_refuses_slowly_is_not_asked_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try may take a minute: after the first that did there is no further one."""
    monkeypatch.setattr("tsp.store.s3.client.TRY_AGAIN_FOR_SEC", 0.2)
    monkeypatch.setattr("tsp.store.s3.boto.READ_TIMEOUT_SEC", 0.3)
    monkeypatch.setattr("tsp.store.s3.wire.PACE_SEC", 0.3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = StuckServer(b"")
    store = open_store(StoreConfig(uri="s3://runs/team", endpoint_url=server.url, region="us-east-1"))
    with pytest.raises(StoreUnreachableError, match="did not answer within 1 try"):
        store.read("a")
    server.close()
