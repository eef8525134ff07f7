"""Programs in a real terminal, at which a test types."""

import contextlib
import os
import pty
import select
import subprocess
import threading
import time


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self._controller, terminal = pty.openpty()
        os.environ.update(TERM="xterm-256color", LINES="24")
        self.child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True)
        os.close(terminal)
        self.shown = b""

    def wait_for(self, text: bytes) -> None:
        """Read until a text has been shown since the last one."""
        deadline, seen = time.monotonic() + 600, b""
        while text not in seen:
            assert self.child.poll() is None, self.shown
            assert time.monotonic() < deadline, self.shown
            if select.select([self._controller], [], [], 0.2)[0]:
                seen += os.read(self._controller, 65536)
                self.shown += seen

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._controller, keys)

    def close(self) -> int:
        """Wait for its end. Returns: its exit code."""
        drain = threading.Thread(target=self._drain, daemon=True)
        drain.start()
        try:
            return self.child.wait(600)
        finally:
            self.child.kill()
            os.close(self._controller)

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while os.read(self._controller, 65536):
                pass
