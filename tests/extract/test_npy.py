"""Files of numpy's own format, read by several threads as merges and conversions read them."""

import gc
import io
import sys
import threading
import time

import numpy as np
import pytest

from tsp.extract.npy import array_of, header_of

NUM_THREADS, AT_WORK_SEC = 8, 0.5


@pytest.fixture
def hurried_threads():
    """Python goes from one thread to another wherever it may, and often calls something while it parses."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    gc.callbacks.append(watcher := lambda *_: None)
    yield
    gc.callbacks.remove(watcher)
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)


def written(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("read", [lambda content: array_of(content).shape, lambda content: header_of(content)[0]])
def test_threads_that_read_at_once_do_not_disturb_each_other(hurried_threads, read):
    content, end, answers = written(np.zeros((3, 512), np.float32)), time.monotonic() + AT_WORK_SEC, []

    def work():
        while time.monotonic() < end:
            try:
                answers.append(read(content))
            except SystemError as error:  # of a Python that counts for all threads together
                answers.append(error)

    threads = [threading.Thread(target=work) for _ in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer for answer in answers if answer != (3, 512)} == set()
    assert len(answers) >= NUM_THREADS
