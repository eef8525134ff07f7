"""SIGTERM for process 1 of a container, which receives only signals that it handles, and Ctrl-C for what runs in a
terminal.

Imports nothing slow: programs install this before they import anything else, so that a pod deleted in its first seconds
ends at once, and Ctrl-C shows no traceback of an import.
"""

import os
import signal
import sys
from types import FrameType

from tsp.errors import INTERRUPTED_EXIT_CODE, TerminatedError


def end_on_signals() -> None:
    """From now on, end at once on SIGTERM and Ctrl-C: there is nothing to save yet."""
    end_on_sigterm()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED_EXIT_CODE))


def heed_ctrl_c() -> None:
    """From now on, Ctrl-C raises KeyboardInterrupt again."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_on_sigterm() -> None:
    """From now on, end at once on SIGTERM: there is nothing to save yet, or written files are complete."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # No logging and no unwinding here: the signal may have interrupted anything.
    if os.environ.get("KUBERNETES_SERVICE_HOST"):  # elsewhere the command line, which gets it as well, says so
        os.write(2, b"SIGTERM: ended; the next attempt, or the same command, continues with what is left\n")
    multiprocessing = sys.modules.get("multiprocessing")
    for process in multiprocessing.active_children() if multiprocessing else ():
        process.kill()
    os._exit(TerminatedError.exit_code)
