"""The logs of a run: ``attempt-K/rank-R.log``, in its folder in the store and where a machine keeps its own."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tsp.run.folder import RunFolder

_ATTEMPT_FOLDER = re.compile(r"attempt-(\d+)")
_LOG_FILE = re.compile(r"rank-(\d+)\.log")


def attempt_folder(attempt: int) -> str:
    """The folder of an attempt's logs."""
    return f"attempt-{attempt}"


def log_name(rank: int) -> str:
    """The file name of a rank's log."""
    return f"rank-{rank}.log"


def attempts_among(folders: Iterable[str]) -> list[int]:
    """Attempts whose folders are among these names, in rising order."""
    return sorted(int(match[1]) for name in folders if (match := _ATTEMPT_FOLDER.fullmatch(name)))


def ranks_among(files: Iterable[str]) -> list[int]:
    """Ranks whose logs are among these names, in rising order."""
    return sorted(int(match[1]) for name in files if (match := _LOG_FILE.fullmatch(name)))


class LogFiles(RunFolder):
    """``logs/attempt-K/rank-R.log``."""

    def log_key(self, attempt: int, rank: int) -> str:
        """Key in the store of a rank's log."""
        return self.key("logs", attempt_folder(attempt), log_name(rank))

    def attempts(self) -> list[int]:
        """Attempts that left logs, in rising order."""
        return attempts_among(self.store.list_folders(self.key("logs")))

    def ranks(self, attempt: int) -> list[int]:
        """Ranks that left a log in an attempt, in rising order."""
        folder = self.key("logs", attempt_folder(attempt))
        return ranks_among(entry.key.rpartition("/")[2] for entry in self.store.list(f"{folder}/"))
