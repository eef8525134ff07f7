"""A time limit for calls that have none of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(timeout_sec: float, read: Callable[[], T]) -> T:
    """What ``read`` returns or raises, unless it takes longer.

    In a daemon thread: an executor would delay the end of the program for a store that does not answer.
    Raises: TimeoutError.
    """
    done: queue.Queue[Callable[[], T]] = queue.Queue()

    def work() -> None:
        try:
            found = read()
        except BaseException as error:
            failure = error

            def fail() -> T:
                raise failure

            done.put(fail)
        else:
            done.put(lambda: found)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer = done.get(timeout=timeout_sec)
    except queue.Empty:
        raise TimeoutError from None
    return answer()
