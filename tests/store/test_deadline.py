"""A bound on the time of something that has none of its own."""

import subprocess
import sys
import threading

import pytest

from tsp.store.deadline import within


def test_what_is_done_in_time_is_answered_or_raised() -> None:
    assert within(600, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(600, lambda: 1 // 0)


def test_what_takes_longer_is_left_to_itself() -> None:
    over, others = threading.Event(), set(threading.enumerate())
    with pytest.raises(TimeoutError):
        within(0.05, over.wait)
    assert all(thread.daemon for thread in set(threading.enumerate()) - others), "it would keep the program from ending"
    over.set()


ENDS = """
import threading
from tsp.store.deadline import within
try:
    within(0.05, threading.Event().wait)
except TimeoutError:
    print("goes on")
"""


def test_a_program_can_end_while_a_store_does_not_answer() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=1200)
    assert (done.stdout, done.returncode) == ("goes on\n", 0)
