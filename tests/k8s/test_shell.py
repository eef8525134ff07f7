"""A command beside a rank: bytes go both ways, the exit code comes back."""

import io
import json
import os
import pty
import signal
import socket
import termios
import threading
from types import SimpleNamespace

import pytest

from k8s.client import Cluster, ClusterAddress
from k8s.shell import run_in_pod
from tests.k8s.exec_server import ERROR, STDERR, STDOUT, serving
from tsp.errors import ClusterError

BYTES = bytes(range(256)) * 40 + "Ünïcödé → 漢字".encode()
"""Text whose characters any frame may cut, and what is no text."""


@pytest.fixture
def run_on(tmp_path):
    """Run a command in a pod of the server at an address."""

    def run_on(address):
        path = tmp_path / "config"
        context = {"cluster": "c", "user": "u", "namespace": "video"}
        config = {
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "contexts": [{"name": "x", "context": context}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))
        return run_in_pod(Cluster(ClusterAddress(kubeconfig=str(path))), "r-0", "pytorch", ["cat"])

    return run_on


@pytest.fixture
def run(run_on, monkeypatch):
    """Run a command on a server of ours, with this standard input."""

    def run(command, given=b"", **server):
        reading, writing = os.pipe()
        feeder = threading.Thread(target=lambda: (os.write(writing, given), os.close(writing)))
        feeder.start()
        with open(reading) as stdin, serving(command, **server) as address:
            monkeypatch.setattr("sys.stdin", stdin)
            try:
                return run_on(address)
            finally:
                feeder.join()

    return run


def cat(client):
    """In frames that cut characters."""
    for data in client.stdin():
        for first in range(0, len(data), 101):
            client.send(STDOUT, data[first : first + 101])
    client.send(STDERR, b"careful\n")
    client.end(7)


def test_any_bytes_go_both_ways_and_the_end_of_stdin_ends_the_command(run, capfdbinary):
    assert run(cat, BYTES) == 7
    assert capfdbinary.readouterr() == (BYTES, b"careful\n")


def test_output_that_nobody_reads_yet_does_not_keep_input_from_being_sent(run, capfdbinary):
    """A command that repeats its input reads no more of it while its output is not taken."""
    given = BYTES * 6
    assert len(given) > 60_000
    assert run(cat, given) == 7
    assert capfdbinary.readouterr().out == given


@pytest.mark.parametrize("frames", [1, 7, 100])
def test_output_that_comes_with_the_end_of_the_command_is_whole(run, capfdbinary, frames):
    def flood(client):
        assert list(client.stdin()) == []
        for _ in range(frames):
            client.send(STDERR, b"e" * 30_000)
            client.send(STDOUT, b"o" * 30_000)
        client.end(0)

    for _ in range(5):
        assert run(flood) == 0
        out, err = capfdbinary.readouterr()
        assert (len(out), len(err)) == (frames * 30_000, frames * 30_000)


def test_output_that_comes_while_other_output_is_looked_for_is_not_lost(monkeypatch, capfdbinary):
    """With the end of the command: the connection is closed by then."""

    class Ending:
        def __init__(self, ours):
            self.sock, self._channels, self._open = SimpleNamespace(sock=ours), {}, True
            self.updates = iter([{STDERR: b"careful"}, {STDOUT: b"hello", ERROR: b'{"status": "Success"}'}])

        def is_open(self):
            return self._open

        def update(self, timeout):
            came = next(self.updates, None)
            self._open = self._open and came is not None and ERROR not in came
            self._channels |= came or {}

        def close(self):
            self._open = False

    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as stdin:
        theirs.send(b"x")
        monkeypatch.setattr("sys.stdin", stdin)
        shell = Ending(ours)
        shell.close_channel = lambda channel: None
        cluster = SimpleNamespace(open_shell=lambda *_, tty: shell)
        assert run_in_pod(cluster, "r-0", "pytorch", ["true"]) == 0
    assert capfdbinary.readouterr() == (b"hello", b"careful")


def test_a_server_that_cannot_be_told_the_end_of_stdin_still_ends_the_command_itself(run, capfdbinary):
    def greet(client):
        assert next(client.stdin()) == b"me"
        client.send(STDOUT, b"hello")
        client.end(0)

    assert run(greet, b"me", protocol="v4.channel.k8s.io") == 0
    assert capfdbinary.readouterr().out == b"hello"


def no_such_program(client):
    message = 'Internal error occurred: error executing command in container: exec: "nosuch": executable file not found'
    said = {"status": "Failure", "message": message, "reason": "InternalError", "code": 500}
    client.send(ERROR, json.dumps({**said, "details": {"causes": [{"message": message}]}}).encode())
    client.close()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (no_such_program, '^the command could not be run in pod r-0: .*"nosuch": executable file not found$'),
        (lambda client: client.close(), "^the connection to the command in pod r-0 broke before it ended"),
        (lambda client: client.send(STDOUT, b"hel"), "^the connection to the command in pod r-0 broke before it ended"),
        (lambda client: client.connection.sendall(b"\x82\x7e"), "broke before it ended"),
        (lambda client: (client.send(ERROR, b'{"status": "Failure"}'), client.close()), ": no reason given$"),
    ],
)
def test_a_command_without_an_exit_code_is_an_error_that_tells_why(run, capfdbinary, command, message):
    with pytest.raises(ClusterError, match=message):
        run(command)


def test_programs_know_the_size_of_the_terminal_and_hear_when_it_changes(run_on, monkeypatch):
    keyboard, terminal = pty.openpty()
    sizes = []

    def watch(client):
        stdin = client.stdin()
        for size in ((50, 132), (24, 80)):
            termios.tcsetwinsize(terminal, size)
            os.kill(os.getpid(), signal.SIGWINCH)
            while client.size != {"Width": size[1], "Height": size[0]}:
                next(stdin)
            sizes.append(size)
        client.end(0)

    with open(terminal) as stdin, open(os.dup(terminal), "w") as stdout, serving(watch) as address:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.stdout", stdout)
        assert run_on(address) == 0
    os.close(keyboard)
    assert sizes == [(50, 132), (24, 80)]


class Terminal(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize("stdout", [False, True])
def test_the_command_has_a_terminal_only_where_both_ends_of_ours_are_one(monkeypatch, stdin, stdout):
    monkeypatch.setattr("sys.stdin", Terminal(stdin))
    monkeypatch.setattr("sys.stdout", Terminal(stdout))
    asked = []

    class FakeCluster:
        def open_shell(self, pod, container, command, *, tty):
            asked.append((pod, container, command, tty))
            raise ClusterError("enough")

    with pytest.raises(ClusterError, match="enough"):
        run_in_pod(FakeCluster(), "p", "c", ("sh", "-c"))
    assert asked == [("p", "c", ["sh", "-c"], stdin and stdout)]
