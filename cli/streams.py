"""Handles standard input, output and error that are closed, on a full disk, or cannot encode a character."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from cli.signals import DeadlySignal
from tsp.errors import TspError
from tsp.wording import harmless


def prepare_streams() -> None:
    """Give the process all three streams, and let them take any text.

    One that was closed (``<&-``, cron, a daemon) is None in ``sys``, and its number would go to the next file that is
    opened, into which a child process would then write: it is the null device.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115, kept open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal's encoding lacks are escaped instead of failing.
            stream.reconfigure(errors="backslashreplace")
    # Not those of a test, nor the null device.
    if sys.stdout is sys.__stdout__:
        _wrap(sys.stdout, _naming_itself)
    if sys.stderr is sys.__stderr__:
        _wrap(sys.stderr, _without_a_reader)


Method = Callable[..., Any]


def _wrap(stream: Any, around: Callable[[Method], Method]) -> None:
    for name in ("write", "flush"):
        setattr(stream, name, around(getattr(stream, name)))


class OutputError(TspError):
    """Standard output cannot be written."""


def _naming_itself(method: Method) -> Method:
    """The method of stdout, whose errors say that they are not a file's; without a reader the program dies of SIGPIPE,
    as others do.
    """

    @wraps(method)
    def call(*args: Any) -> Any:
        try:
            return method(*args)
        except BrokenPipeError:
            _to_null_device(1)
            raise DeadlySignal(signal.SIGPIPE) from None
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}; the output is incomplete") from error

    return call


def _without_a_reader(method: Method) -> Method:
    """The method of stderr, which nobody may read any more (a closed terminal): that ends no work."""

    @wraps(method)
    def call(*args: Any) -> Any:
        try:
            return method(*args)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            _to_null_device(2)

    return call


def _to_null_device(descriptor: int) -> None:
    """What is still buffered goes there, too."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print to stdout or stderr. All output goes through here, since any of it may contain what others wrote: control
    characters are escaped.
    """
    click.echo(harmless(str(text)), err=err, nl=nl)  # noqa: TID251
