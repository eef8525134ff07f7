"""SIGTERM and SIGINT: recorded at once, handled where the training state is consistent."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from types import FrameType

from tsp.errors import TerminatedError

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether this process must end."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._wakeup: tuple[socket.socket, socket.socket] | None = None

    @property
    def requested(self) -> bool:
        """Whether SIGTERM or SIGINT was received."""
        return self.signal_name is not None

    def install(self) -> None:
        """Install the handlers; signals after the first have no effect."""
        for number in _SIGNALS:
            signal.signal(number, self._hear)
        # Python runs handlers only between bytecodes of the main thread. The interpreter's C handler, which runs at
        # once, writes the signal number here, so that another thread sees it while the main one is stuck in a library.
        self._wakeup = socket.socketpair()
        for end in self._wakeup:
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)

    def uninstall(self) -> None:
        """Undo ``install``, so that no later descriptor of the same number is written to. Main thread only."""
        if self._wakeup is None or threading.current_thread() is not threading.main_thread():
            return
        signal.set_wakeup_fd(-1)
        ends, self._wakeup = self._wakeup, None
        for end in ends:
            end.close()

    def heard_anywhere(self) -> bool:
        """Whether a signal has arrived, even if the main thread could not run its handler yet. From any thread."""
        ends = self._wakeup
        if ends is not None:
            # Nothing to read, or uninstalled in the meantime.
            with contextlib.suppress(OSError):
                for number in ends[0].recv(4096):
                    if number in _SIGNALS:
                        self.signal_name = self.signal_name or signal.Signals(number).name
        return self.signal_name is not None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        # No logging here: the signal may have interrupted logging itself.
        self.signal_name = self.signal_name or signal.Signals(number).name

    def check(self, doing: str) -> None:
        """End here if a signal has arrived.

        Args: doing, the interrupted work, for the message.
        Raises: TerminatedError.
        """
        if self.signal_name is not None:
            raise self.terminated(doing)

    def terminated(self, doing: str) -> TerminatedError:
        """The error that names the interrupted work."""
        return TerminatedError(f"{self.signal_name} while {doing}: ended; the next attempt continues from there")
