"""Handles standard input, output and error that are closed, on a full disk, or cannot encode a character."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

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
    if sys.stdout is not sys.__stdout__:  # a test's, or the null device
        return
    for name in ("write", "flush"):
        setattr(sys.stdout, name, _naming_itself(getattr(sys.stdout, name)))


class OutputError(TspError):
    """Standard output cannot be written."""


def _naming_itself(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, whose errors say that they are not a file's; click ends a program whose reader has left."""

    @wraps(method)
    def call(*args: Any) -> Any:
        try:
            return method(*args)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}; the output is incomplete") from error

    return call


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print to stdout or stderr. All output goes through here, since any of it may contain what others wrote: control
    characters are escaped.
    """
    click.echo(harmless(str(text)), err=err, nl=nl)  # noqa: TID251
