"""File locks that may not work: NFS and some FUSE mounts refuse them, others grant them to every process.

A lock here only saves work: its holder may assume that no other process does the same at the moment, but correctness
must not depend on it. Two processes that write at once therefore write to separate files until they are complete.
"""

from __future__ import annotations

import enum
import errno
import fcntl
from typing import IO

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EIO})


class Lock(enum.Enum):
    """The result of requesting a lock."""

    HELD = "held"
    TAKEN = "taken"
    """By another process; only where it was not waited for."""
    UNSUPPORTED = "unsupported"
    """The file system has no locks: continue without."""


def lock_file(file: IO[bytes] | int, *, shared: bool = False, wait: bool = True) -> Lock:
    """Lock an open file until it is closed.

    Args: file, an open file or descriptor; shared, together with other readers; wait, until the holder releases it.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.TAKEN
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return Lock.TAKEN
        if error.errno in _NO_LOCKS:
            return Lock.UNSUPPORTED
        raise
    return Lock.HELD
