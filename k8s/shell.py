"""A command in a rank's container, with the terminal attached."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from k8s.client import Cluster

_POLL_SEC = 0.1


def run_in_pod(cluster: Cluster, pod: str, container: str, command: Sequence[str]) -> int:
    """Run a command in a pod with our stdin, stdout and stderr.

    Returns: its exit code.
    """
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    shell = cluster.open_shell(pod, container, list(command), tty=tty)
    with _raw_terminal(tty):
        _pump(shell, tty=tty)
    shell.close()
    code = shell.returncode
    return 1 if code is None else int(code)


def _pump(shell: Any, *, tty: bool) -> None:
    """Carry bytes both ways until the command has ended."""
    source: int | None = sys.stdin.fileno()
    while shell.is_open():
        shell.update(timeout=_POLL_SEC)
        for peek, read, target in (
            (shell.peek_stdout, shell.read_stdout, sys.stdout),
            (shell.peek_stderr, shell.read_stderr, sys.stderr),
        ):
            if peek():
                target.write(read())
                target.flush()
        if source is not None and select.select([source], [], [], 0)[0]:
            data = os.read(source, 4096)
            if data:
                shell.write_stdin(data.decode(errors="replace"))
            else:
                # The protocol cannot close only stdin; with a terminal, an end-of-file character does.
                if tty:
                    shell.write_stdin("\x04")
                source = None


@contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    """Keystrokes go to the command, not to our own line discipline."""
    if not wanted:
        yield
        return
    import termios
    import tty as terminal

    before = termios.tcgetattr(sys.stdin.fileno())
    try:
        terminal.setraw(sys.stdin.fileno())
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
