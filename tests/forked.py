"""What the server that tests' processes are forked from imports, once for all of them.

Pytest's workers are forked from it as well (``tests.fork_server``): none of them imports torch, or what we are about
to test, again. Modules named test_ are not for here: pytest rewrites their assertions while it imports them.

No collector of a forked process looks at what was imported: each would otherwise go through some 500,000 objects, and
copy the pages that they lie on. And the server outlives processes that are killed while they ask it for another;
Python's own, which serves one process, ends.
"""

import atexit
import errno
import gc
import importlib
import logging
import pkgutil
import socket
from collections.abc import Iterator
from multiprocessing import reduction
from types import ModuleType

import cli
import k8s
import tsp
from tsp.imports import heavy_imports

LIBRARIES = ["torch._dynamo", "kubernetes.client", "kubernetes.stream", "boto3", "h5py", "textual.app"]
"""What our modules import only where they need it."""
HELPERS = ["tests.train.worlds", "tests.k8s.racing"]
"""What functions that tests have called in other processes lie in."""


def _modules_of(package: ModuleType) -> Iterator[str]:
    return (module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


_receive = reduction.recvfds


def _receive_or_forget(connection: socket.socket, size: int) -> list[int]:
    try:
        return _receive(connection, size)
    except EOFError:
        # The one error of a connection that the server takes as being of no consequence.
        raise OSError(errno.ECONNABORTED, "who asked for a process has ended") from None


with heavy_imports():
    for name in [*LIBRARIES, *_modules_of(tsp), *_modules_of(k8s), *_modules_of(cli), *HELPERS]:
        importlib.import_module(name)
    gc.collect()
for logger in logging.root.manager.loggerDict.values():
    if isinstance(logger, logging.Logger):
        # Three times a test pytest goes to each of those that keep what they hear to themselves, 58 of them torch's.
        logger.propagate = True
reduction.recvfds = _receive_or_forget
atexit.register(gc.unfreeze)  # at the server's own end all is collected; extensions count what is left then
