"""A rank hears SIGTERM wherever it is stuck, and stops listening when it is done."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from tsp.train.stop_signal import Stop


@pytest.fixture
def stop() -> Iterator[Stop]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop = Stop()
    stop.install()
    yield stop
    stop.uninstall()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_signal_is_heard_and_named(stop: Stop) -> None:
    assert not stop.heard_anywhere()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.heard_anywhere()
    assert stop.signal_name == "SIGTERM"


def test_a_signal_after_the_end_is_written_into_nobodys_connection(stop: Stop) -> None:
    stop.uninstall()
    # The next connections get the descriptors that were given back.
    pairs = [socket.socketpair() for _ in range(4)]
    before = signal.signal(signal.SIGCHLD, lambda number, frame: None)
    os.kill(os.getpid(), signal.SIGCHLD)
    signal.signal(signal.SIGCHLD, before)
    ends = [end for pair in pairs for end in pair]
    for end in ends:
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(1)
    for end in ends:
        end.close()
    assert signal.set_wakeup_fd(-1) == -1
