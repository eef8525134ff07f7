"""Child processes that read videos: how they are made, and that none of them outlives its parent.

They are forked from a small server process that has imported what they need: quick after the first, and safe beside the
threads and the GPU of the parent, which a fork of it would not be. But then the operating system calls the server their
parent, so neither a changed parent's id nor prctl's death signal shows that the process that wanted them was killed.
What does, on Linux and macOS, is a pipe: multiprocessing gives every child the reading end of one whose writing end
only the parent holds. When the last child has ended the server sees the end of a pipe of its own and ends too.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.context import ForkServerContext

ORPHANED = 143
"""Exit code of a child whose parent has gone."""


def forkserver(*modules: str) -> ForkServerContext:
    """The context that children are made with; the server imports the modules once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that was killed; nothing in a parent."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="ends with parent", daemon=True).start()
