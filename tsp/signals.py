"""SIGTERM for process 1 of a container, which receives only signals that it handles.

Imports nothing slow: programs install this before they import anything else, so that a pod deleted in its first seconds
ends at once.
"""

import os
import signal
import sys
from types import FrameType

from tsp.errors import TerminatedError


def end_on_sigterm() -> None:
    """From now on, end at once on SIGTERM: there is nothing to save yet, or written files are complete."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # No logging and no unwinding here: the signal may have interrupted anything.
    os.write(2, b"SIGTERM: ended; the next attempt, or the same command, continues with what is left\n")
    multiprocessing = sys.modules.get("multiprocessing")
    for process in multiprocessing.active_children() if multiprocessing else ():
        process.kill()
    os._exit(TerminatedError.exit_code)
