"""A store that takes connections and never answers, or answers a byte at a time: commands end, with their codes."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.backends.local.run_folder import local_run
from tests.cli.conftest import Tspctl
from tests.waiting import wait_until
from tsp.store.retry import RetryPolicy

Plan = Callable[..., None]


class StuckServer:
    """Accepts everything; sends nothing, or a body of a few bytes a second."""

    def __init__(self, *, drips: bool) -> None:
        self.drips = drips
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open = True
        self.connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _accept(self) -> None:
        while self._open:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            if self.drips:
                self._start(self._drip, connection)

    def _drip(self, connection: socket.socket) -> None:
        try:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while self._open:
                connection.sendall(b"a")
                time.sleep(0.05)
        except OSError:
            return

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Wake the threads and wait for them before anything is closed: what a thread that is still in a call then
        answers would go to whichever test's socket has got the number of its own."""
        self._open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for connection in (self._socket, *self.connections):
            connection.close()


@pytest.fixture(params=["silent", "drips"])
def stuck(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckServer]:
    """Such a server; the client's patience is cut to fractions of a second."""
    server = StuckServer(drips=request.param == "drips")
    monkeypatch.setattr("tsp.store.s3.boto.READ_TIMEOUT_SEC", 0.5)
    monkeypatch.setattr("tsp.store.s3.wire.PACE_SEC", 0.5)
    monkeypatch.setattr("tsp.store.open.RetryPolicy", lambda: RetryPolicy(attempts=2, first_delay_sec=0.01))
    monkeypatch.setattr("cli.runs.summaries.PATIENCE_SEC", 1.0)
    monkeypatch.setattr("cli.runs.outcome.POLL_SEC", 0.01)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield server
    server.close()


@pytest.fixture
def known_run(
    tspctl: Tspctl, local: Path, plan_ranks: Plan, stuck: StuckServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local run that succeeded, and whose store has got stuck since."""
    plan_ranks(epochs=1)
    assert tspctl("submit", "--dataset", "demo", "--method", "tac", "--name", "a", "--follow").code == 0
    wait_until(lambda: not local_run("a").is_supervised(), "its supervisor is gone")
    path = local_run("a").folder / "launch.json"
    launch = json.loads(path.read_text())
    store = {
        "uri": "s3://bucket/runs",
        "endpoint_url": stuck.url,
        "region": "r",
        "path_style": True,
        "checksums": "auto",
    }
    path.write_text(json.dumps({**launch, "store": {**launch["store"], **store}}))
    monkeypatch.setenv("TSPCTL_STORE", store["uri"])
    monkeypatch.setenv("TSPCTL_ENDPOINT_URL", stuck.url)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("status", "a"), 0, "progress and results are not available"),
        (("wait", "a"), 0, "run a: succeeded"),
        (("logs", "a"), 0, ""),
        (("logs", "-f", "a"), 0, "run a: succeeded"),
        (("list",), 0, "1 run is shown without progress"),
        (("list", "-o", "name"), 0, "runs known only to the store are missing in this list"),
    ],
)
def test_what_this_machine_knows_is_shown_without_the_store(
    tspctl: Tspctl, known_run: None, words: tuple[str, ...], code: int, said: str
) -> None:
    began = time.monotonic()
    ended = tspctl(*words)
    assert ended.code == code, ended.err
    assert said in ended.err
    assert "unexpected" not in ended.err
    if words[0] in ("status", "list"):
        assert "a" in ended.out
    if words == ("logs", "a"):
        assert "epoch 0 done" in ended.out
    assert time.monotonic() - began < 600, "the server drips for an hour and more"


@pytest.mark.parametrize("stuck", ["silent"], indirect=True)
@pytest.mark.parametrize("command", ["results", "fetch-best"])
def test_what_only_the_store_holds_is_a_store_error(tspctl: Tspctl, known_run: None, command: str) -> None:
    ended = tspctl(command, "a")
    assert (ended.code, ended.out) == (5, ""), ended.err
    assert "did not answer" in ended.err or "is not an S3 server" in ended.err


@pytest.mark.parametrize("words", [("status", "b"), ("wait", "b"), ("logs", "b"), ("logs", "-f", "b"), ("list",)])
def test_what_only_the_store_could_know_is_a_store_error(
    tspctl: Tspctl, local: Path, stuck: StuckServer, words: tuple[str, ...]
) -> None:
    ended = tspctl(*words, "--store", "s3://bucket/runs", "--endpoint-url", stuck.url)
    assert (ended.code, ended.out) == (5, ""), ended.err
    assert "did not answer" in ended.err or "is not an S3 server" in ended.err


def test_a_store_that_gets_stuck_while_a_run_is_waited_for_is_waited_for_too(
    tspctl: Tspctl, local: Path, stuck: StuckServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsp.store.s3.store import S3Store

    monkeypatch.setattr(S3Store, "exists", lambda self, key: True)  # it answered once
    ended = tspctl("wait", "b", "--timeout", "3", "--store", "s3://bucket/runs", "--endpoint-url", stuck.url)
    assert ended.code == 101, ended.err
    assert ended.err.count("still trying") == 1
    assert "run b has not finished after 3 s" in ended.err
