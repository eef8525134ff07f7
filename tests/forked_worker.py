"""Starts a worker of pytest-xdist by forking it from the tests' fork server instead of by starting Python anew.

A new one imports what it tests, 5 seconds of a core each. xdist starts its workers by execnet: a program that gets a
line of Python on stdin and runs it. ``main`` is such a program; the process that it has forked gets its stdin, stdout
and stderr, and it ends as that one does.
"""

from __future__ import annotations

import os
import pickle
import sys
from multiprocessing import forkserver

FORK_SERVER = "TSP_TEST_FORK_SERVER"
"""Variable: the address of the server that all workers, and their processes, are forked from."""
FORKS_WORKER = "from tests.forked_worker import main; main()"


def use_server(address: str) -> None:
    """Have this process's children forked from a server that another one has started."""
    server = forkserver._forkserver
    server._forkserver_address = address
    # What children hold for a server to end with the last of them; this one ends with where pytest was started.
    server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)
    server.ensure_running = forkserver.ensure_running = lambda: None


class Worker:
    """The process to fork; named and called as multiprocessing's own, of whose state a worker wants none."""

    def __init__(self, environment: dict[str, str], folder: str) -> None:
        self.environment = environment
        self.folder = folder

    def _bootstrap(self, parent_sentinel: int) -> int:
        os.close(parent_sentinel)
        inherited = forkserver.get_inherited_fds()
        for ours, theirs in enumerate(inherited):
            os.dup2(theirs, ours)
            os.close(theirs)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.argv = ["-c"]
        exec(eval(sys.stdin.readline()), {"__name__": "__main__"})
        return 0


def main() -> None:
    """Have a worker forked, and end as it does."""
    use_server(os.environ[FORK_SERVER])
    status, process = forkserver.connect_to_new_process([0, 1, 2])
    with open(process, "wb") as words:
        pickle.dump({}, words)  # what multiprocessing would prepare
        pickle.dump(Worker(dict(os.environ), os.getcwd()), words)
    forkserver.read_signed(status)  # its number
    sys.exit(forkserver.read_signed(status))
