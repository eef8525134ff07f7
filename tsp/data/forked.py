"""Imported first by a fork server: it collects no garbage, and its children do not collect what it has imported.

See tsp.imports; a collection would also copy the pages that parent and children share.
"""

import gc
import os
import pickle
import sys
import traceback
from types import TracebackType

_CUT_OFF = (FileNotFoundError, EOFError, ConnectionError, pickle.UnpicklingError)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Nothing of a child whose parent ended while it was started, and took along the semaphores that they share."""
    modules = {frame.f_globals["__name__"].partition(".")[0] for frame, _ in traceback.walk_tb(trace)}
    if not (issubclass(kind, _CUT_OFF) and modules == {"multiprocessing"}):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report
gc.disable()
os.register_at_fork(before=gc.freeze, after_in_child=gc.enable)
