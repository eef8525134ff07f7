"""SIGTERM for the first process of a container, which hears no signal that it does not ask for.

Imports nothing that takes time: programs install this before they import anything else, so that a pod that is deleted
in its first seconds ends in them.
"""

import os
import signal
import sys
from types import FrameType

TERMINATED = 143
"""tsp.errors.TerminatedError's, which would have to be imported."""


def end_on_sigterm() -> None:
    """End at once when told to, from now on: there is nothing to save yet, or what is written is whole."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # No logging and no unwinding here: the signal may have come in the middle of anything.
    os.write(2, b"SIGTERM: ended; the next attempt goes on with what is left\n")
    multiprocessing = sys.modules.get("multiprocessing")
    for process in multiprocessing.active_children() if multiprocessing else ():
        process.kill()
    os._exit(TERMINATED)
