"""How a command ends that is told to: it cleans up as after Ctrl-C, and then dies of that signal.

A shell ends its script, and ``timeout``, ``xargs`` and ``make`` know what happened, only if the program has died of the
signal: after an exit code of 130, bash goes on with the next turn of a loop that Ctrl-C was to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from tsp.errors import interruption

FIRST_SIGNAL_CODE = 128
"""Shells show the death by a signal as this and the signal's number."""


class ToldToEndError(KeyboardInterrupt):
    """Like Ctrl-C, but by another signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class DeadlySignal(SystemExit):
    """The end of the program; ``run`` makes it the death by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(FIRST_SIGNAL_CODE + number)
        self.number = number


def run(main: Callable[[], NoReturn]) -> NoReturn:
    """Run a program that hears SIGTERM and SIGHUP as it hears Ctrl-C."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
                signal.signal(number, raise_told_to_end)
        main()
    except DeadlySignal as end:
        die_of(end.number)


@contextlib.contextmanager
def ends_itself(end: Callable[[], None]) -> Iterator[None]:
    """A block that SIGTERM and SIGHUP do not interrupt: ``end`` makes it end, and the program ends with it."""
    told: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        told.append(number)
        end()

    with _handled_by(hear):
        yield
    if told:
        raise ToldToEndError(told[0])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within a block that ends itself, one that does not."""
    with _handled_by(raise_told_to_end):
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    kept = {number: before for number, before in kept.items() if callable(before)}  # nohup ignores SIGHUP
    for number in kept:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in kept.items():
            signal.signal(number, before)


def number_of(error: BaseException) -> int:
    """The signal that interrupted a program whose error this is; SIGINT if none did."""
    cause = interruption(error)
    return cause.number if isinstance(cause, ToldToEndError) else signal.SIGINT


def die_of(number: int) -> NoReturn:
    """End this process by a signal."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, SystemExit):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(FIRST_SIGNAL_CODE + number)


def raise_told_to_end(number: int, frame: FrameType | None) -> None:
    """The handler of the signals."""
    signal.signal(number, signal.SIG_DFL)  # the second one ends it at once
    raise ToldToEndError(number)
