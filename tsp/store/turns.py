"""Commands of one machine that write to the same address take turns.

Each file is written atomically, so two writers never leave half a file. But outputs of several files (a folder of
features, a data set) could come from two commands, and a file that is read, extended and written back (annotations,
subset by subset) could lose what another command added. The locks are files in the cache, not next to outputs, which
may be in S3 or on a file system without locks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tsp.store.locks import Lock, lock_file
from tsp.store.scratch import cache_folder


@contextmanager
def in_turn(addresses: Iterable[str], waits: Callable[[str], None]) -> Iterator[tuple[int, ...]]:
    """Wait until no other command writes to any of the paths and URIs.

    Args: waits, called with the address that is waited for.
    Returns: descriptors to pass to processes that write: the addresses are taken until these have ended, too.
    """
    named = {_lock_path(address): address for address in addresses}
    with contextlib.ExitStack() as stack:
        held = []
        for path, address in sorted(named.items()):  # in one order, so that no two commands wait for each other
            with contextlib.suppress(OSError):  # a cache that cannot be written: without locks
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                file = stack.enter_context(open(path, "ab"))
                if lock_file(file, wait=False) is Lock.TAKEN:
                    waits(address)
                    lock_file(file)
                held.append(file.fileno())
        yield tuple(held)


def _lock_path(address: str) -> Path:
    place = address.rstrip("/") if "://" in address else os.path.realpath(address)
    return cache_folder("locks") / hashlib.sha256(os.fsencode(place)).hexdigest()[:32]
