"""A command beside a rank: bytes go both ways, the exit code comes back."""

import contextlib
import io
import os

import pytest

from k8s.shell import run_in_pod


class FakeShell:
    """A websocket to a command that greets, repeats what it is given, and ends with a code."""

    def __init__(self, *, code):
        self.out, self.err, self.given, self.returncode, self.closed, self.turns = (
            ["hello\n"],
            ["careful\n"],
            "",
            code,
            False,
            3,
        )

    def is_open(self):
        self.turns -= 1
        return self.turns >= 0

    def update(self, timeout):
        assert timeout > 0

    def peek_stdout(self):
        return bool(self.out)

    def read_stdout(self):
        return self.out.pop()

    def peek_stderr(self):
        return bool(self.err)

    def read_stderr(self):
        return self.err.pop()

    def write_stdin(self, text):
        self.given += text

    def close(self):
        self.closed = True


class FakeCluster:
    def __init__(self, shell):
        self.shell, self.asked = shell, None

    def open_shell(self, pod, container, command, *, tty):
        self.asked = (pod, container, command, tty)
        return self.shell


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (7, 7), (None, 1)])
def test_streams_are_carried_and_the_exit_code_comes_back(monkeypatch, capsys, code, expected):
    reading, writing = os.pipe()
    os.write(writing, b"what we type\n")
    os.close(writing)
    with open(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        shell = FakeShell(code=code)
        cluster = FakeCluster(shell)
        assert run_in_pod(cluster, "r-master-0", "pytorch", ("ls", "/")) == expected
    assert cluster.asked == ("r-master-0", "pytorch", ["ls", "/"], False)
    assert (shell.given, shell.closed) == ("what we type\n", True)
    assert capsys.readouterr() == ("hello\n", "careful\n")


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
    monkeypatch.setattr("k8s.shell._raw_terminal", contextlib.nullcontext)
    monkeypatch.setattr("k8s.shell._pump", lambda shell, *, tty: None)
    cluster = FakeCluster(FakeShell(code=0))
    run_in_pod(cluster, "p", "c", ["sh"])
    assert cluster.asked[-1] is (stdin and stdout)
