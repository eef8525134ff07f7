"""Processes of a session of the operating system: what a command has started, however deep."""

from __future__ import annotations

from pathlib import Path


def processes_of(session: int) -> list[int]:
    """Those that run in a session, without zombies."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        if folder.name.isdigit() and int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found
