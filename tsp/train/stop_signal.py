"""Hearing SIGTERM: noted at once, acted on where the state is whole."""

from __future__ import annotations

import logging
import signal
from types import FrameType

from tsp.errors import TerminatedError

logger = logging.getLogger(__name__)


class Stop:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    @property
    def requested(self) -> bool:
        """Whether SIGTERM or SIGINT was heard."""
        return self.signal_name is not None

    def install(self) -> None:
        """Hear SIGTERM and SIGINT from now on; further ones change nothing."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        # No logging here: the signal may have come in the middle of it.
        self.signal_name = self.signal_name or signal.Signals(number).name

    def check(self, doing: str) -> None:
        """End here if asked to.

        Args: doing, what is broken off, for the message.
        Raises: TerminatedError.
        """
        if self.signal_name is not None:
            raise TerminatedError(f"{self.signal_name} while {doing}: ended; the next attempt goes on from there")
