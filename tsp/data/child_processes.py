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
import threading
from multiprocessing.context import ForkServerContext

from tsp.errors import TerminatedError


def forkserver(*modules: str) -> ForkServerContext:
    """The context that starts children; its server imports the modules once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsp.data.forked", *modules])
    return context


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, even by SIGKILL; does nothing in the parent."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(TerminatedError.exit_code)

    threading.Thread(target=watch, name="ends with parent", daemon=True).start()
