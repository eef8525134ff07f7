"""Imported last by the server that tests' processes are forked from: no collector of theirs looks at what it imported.

Each would otherwise go through some 500,000 objects, and copy the pages that they lie on. And the server outlives
processes that are killed while they ask it for another; Python's own, which serves one process, ends.
"""

import atexit
import errno
import gc
import socket
from multiprocessing import reduction

_receive = reduction.recvfds


def _receive_or_forget(connection: socket.socket, size: int) -> list[int]:
    try:
        return _receive(connection, size)
    except EOFError:
        # The one error of a connection that the server takes as being of no consequence.
        raise OSError(errno.ECONNABORTED, "who asked for a process has ended") from None


reduction.recvfds = _receive_or_forget
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # at the server's own end all is collected; extensions count what is left then
