"""The one server that tests' processes are forked from, pytest's workers among them, and ways to have them forked.

What it has imported (``tests.forked``) none of them imports again: 5 seconds of a core each. Python's own server is
started by the process that needs it, and only starts functions; here several processes share one, and what it forks
may have any environment, read its parent's stdin, or be such a server itself.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
from collections.abc import Iterator
from multiprocessing import connection, forkserver

ADDRESS = "TSP_TEST_FORK_SERVER"
"""Variable: where the server listens that all workers use."""
FORKS_WORKER = "from tests.fork_server import fork_worker; fork_worker()"
"""What execnet runs in place of Python, and gives a line to run on stdin; pytest-xdist starts its workers by it."""


def our_server() -> str | None:
    """Where the server listens that this process has its children forked from, for ``use_server`` in one of them; None
    from Python 3.14 on, where a server only listens to the process that started it."""
    server = forkserver._forkserver
    if hasattr(server, "_forkserver_authkey"):
        return None
    forkserver.ensure_running()
    return server._forkserver_address


def use_server(address: str) -> None:
    """Have this process's children forked from a server that another one has started."""
    _use(forkserver._forkserver, address, os.open(os.devnull, os.O_RDONLY))
    forkserver.ensure_running = _nothing


def _use(server: forkserver.ForkServer, address: str, alive: int) -> None:
    server._forkserver_address = address
    server._forkserver_alive_fd = alive  # which children hold for a server to end with the last of them
    server.ensure_running = _nothing


def _nothing() -> None:
    """A server that somebody else has started is running."""


class _Forked:
    """A process to fork, in place of one of multiprocessing's own, of whose state these want none."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.folder = os.getcwd()

    def fork(self, *descriptors: int) -> int:
        """Where its number and then its exit code can be read. Args: descriptors, which it inherits."""
        status, process = forkserver.connect_to_new_process(list(descriptors))
        with open(process, "wb") as words:
            pickle.dump({}, words)  # what multiprocessing would prepare
            pickle.dump(self, words)
        forkserver.read_signed(status)
        return status

    def _bootstrap(self, parent_sentinel: int) -> int:
        os.close(parent_sentinel)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        self.run(*forkserver.get_inherited_fds())
        return 0


class _Worker(_Forked):
    """What ``python -c LINE`` would be, with the stdin, stdout and stderr of the process that asks for it."""

    def run(self, *streams: int) -> None:
        for ours, theirs in enumerate(streams):
            os.dup2(theirs, ours)
            os.close(theirs)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.argv = ["-c"]
        exec(eval(sys.stdin.readline()), {"__name__": "__main__"})


class _Server(_Forked):
    """Another server, which has imported the same."""

    def run(self, listener: int, alive: int) -> None:
        forkserver.main(listener, alive, [])


def fork_worker() -> None:
    """Have a worker forked, and end as it does."""
    use_server(os.environ[ADDRESS])
    sys.exit(forkserver.read_signed(_Worker().fork(0, 1, 2)))


@contextlib.contextmanager
def server_with_our_environment() -> Iterator[forkserver.ForkServer]:
    """A server for processes that need the variables that this process has now."""
    server = forkserver.ForkServer()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(connection.arbitrary_address("AF_UNIX"))
        listener.listen()
        address = listener.getsockname()
        theirs, ours = os.pipe()
        status = _Server().fork(listener.fileno(), theirs)
        os.close(theirs)
    _use(server, address, ours)
    yield server
    os.close(ours)
    with open(status, "rb") as ended:
        ended.read()
    if not address.startswith("\0"):
        os.unlink(address)
