"""Starts child processes that read videos; none of them outlives its parent.

They are forked from a small server process that has imported the modules they need. This is fast after the first
process, and safe with threads and a GPU in the parent, unlike forking the parent itself. But for the operating system
the server is their parent, so neither a changed parent id nor prctl's death signal shows that the real parent was
killed. A pipe does, on Linux and macOS: multiprocessing gives every child the reading end of a pipe whose writing end
only the parent holds. The server detects in the same way that the parent and its children are gone, and exits.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver as server
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext

from tsp.errors import INTERRUPTED_EXIT_CODE, TerminatedError

_TRACKERS_COMPLAINT = "ignore::UserWarning:multiprocessing.resource_tracker"


def forkserver(*modules: str) -> ForkServerContext:
    """The context that starts children; its server, started here, imports the modules once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsp.data.forked", *modules])
    _start_server()
    return context


def _start_server() -> None:
    """Start the server, unless it runs, without Ctrl-C: that reaches all processes of a terminal, and would find it and
    its children in the middle of an import. They inherit that it is blocked; ``end_with_parent`` lets it through."""
    _start_tracker()  # which would let it through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Start the process that removes semaphores where we could not, and would complain that it had to."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = f"{before},{_TRACKERS_COMPLAINT}" if before else _TRACKERS_COMPLAINT
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, even by SIGKILL, and at Ctrl-C without a word, which is the
    parent's to say; does nothing in the parent."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED_EXIT_CODE))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch() -> None:
        parent.join()
        os._exit(TerminatedError.exit_code)

    threading.Thread(target=watch, name="ends with parent", daemon=True).start()
