"""Waiting for what other threads and processes do, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SEC = 600.0
"""Only what hangs: a busy machine may need a hundred times as long as an idle one."""


def wait_until(true: Callable[[], object], what: str = "it") -> None:
    """Return once it is true; fail if it never is."""
    deadline = time.monotonic() + PATIENCE_SEC
    while not true():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)
