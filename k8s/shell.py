"""A command in a rank's container, with the terminal attached: bytes in, bytes out."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from k8s.answers import parsed
from k8s.client import Cluster
from tsp.errors import ClusterError

_POLL_SEC = 0.1
_CHUNK_BYTES = 4096
"""Fits into the buffer of any socket that select calls writable, so that sending never waits while output comes."""
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)
"""Channels of the protocol."""


def run_in_pod(cluster: Cluster, pod: str, container: str, command: Sequence[str]) -> int:
    """Run a command in a pod with our stdin, stdout and stderr.

    Returns: its exit code. Raises: ClusterError if it could not start, or the connection to it broke.
    """
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    shell = cluster.open_shell(pod, container, list(command), tty=tty)
    try:
        with _raw_terminal(tty), _changes_of_size(tty) as resized:
            _pump(shell, resized, tty=tty)
    finally:
        shell.close()
    return _exit_code(_received(shell, _ERROR), pod)


def _exit_code(status: bytes, pod: str) -> int:
    """The exit code in the last words of the server, a Status of the API. Raises: ClusterError if there is none."""
    if not status:
        raise ClusterError(f"the connection to the command in pod {pod} broke before it ended: it may still run there")
    said = parsed(status)
    if said.get("status") == "Success":
        return 0
    causes = (said.get("details") or {}).get("causes") or []
    code = next((str(item.get("message")) for item in causes if item.get("reason") == "ExitCode"), "")
    if code.isdecimal():
        return int(code)
    raise ClusterError(f"the command could not be run in pod {pod}: {said.get('message') or 'no reason given'}")


class _Nothing:
    def write(self, _data: bytes) -> None:
        """Keep nothing."""


def _holds(use: Callable[[], object]) -> bool:
    """Use the connection. Returns: False if it has broken."""
    import websocket

    try:
        use()
    except (websocket.WebSocketException, OSError):
        return False
    return True


def _received(shell: Any, channel: int) -> bytes:
    """What has come on a channel since it was asked for. Nothing is read here, which might end the connection."""
    return bytes(shell._channels.pop(channel, b""))


def _pump(shell: Any, resized: threading.Event, *, tty: bool) -> None:
    """Carry bytes both ways until the command has ended, or the connection."""
    source: int | None = sys.stdin.fileno()
    streams = ((_STDOUT, sys.stdout), (_STDERR, sys.stderr))
    # The client keeps all output, of any length.
    shell._all = _Nothing()
    for _, target in streams:
        if isinstance(target, io.TextIOWrapper):
            # Any bytes pass through text like this.
            target.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")
    while shell.is_open():
        if resized.is_set():
            resized.clear()
            _holds(partial(shell.write_channel, _RESIZE, _size()))
        has_input = _wait(shell, source)
        if not _holds(partial(shell.update, timeout=0)):
            shell.close()
        # With what came last, if it is closed now.
        for channel, target in streams:
            if data := _received(shell, channel):
                target.write(data.decode(errors="surrogateescape"))
                target.flush()
        if source is not None and has_input and shell.is_open():
            data = os.read(source, _CHUNK_BYTES)
            if data:
                send = partial(shell.write_stdin, data)
            elif tty:
                send = partial(shell.write_stdin, b"\x04")
            else:
                # Servers before Kubernetes 1.30 cannot be told.
                send = partial(shell.close_channel, _STDIN)
            # Where the command has ended already, its last words are still to be read.
            source = source if _holds(send) and data else None


def _wait(shell: Any, source: int | None) -> bool:
    """Wait for bytes of either side. Returns: whether ``source`` has some that can be sent."""
    socket = shell.sock.sock
    if socket is None:
        return False
    # What TLS has decrypted already, select does not see.
    patience_sec = 0.0 if getattr(socket, "pending", lambda: 0)() else _POLL_SEC
    ready = select.select([socket, *([] if source is None else [source])], [], [], patience_sec)[0]
    if source not in ready:
        return False
    if select.select([], [socket], [], 0)[1]:
        return True
    select.select([socket], [socket], [], _POLL_SEC)
    return False


@contextmanager
def _changes_of_size(wanted: bool) -> Iterator[threading.Event]:
    """Set at first, and whenever the terminal has got another size."""
    changed = threading.Event()
    if not wanted:
        yield changed
        return
    changed.set()
    # Not sent from here: a signal may come while something else is being sent.
    before = signal.signal(signal.SIGWINCH, lambda *_: changed.set())
    try:
        yield changed
    finally:
        signal.signal(signal.SIGWINCH, before)


def _size() -> bytes:
    size = os.get_terminal_size(sys.stdout.fileno())
    return json.dumps({"Width": size.columns, "Height": size.lines}).encode()


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
