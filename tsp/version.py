"""The version of the code: the release, its commit, and how it was installed."""

from __future__ import annotations

import functools
import subprocess
import sys
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "tspctl"
_TOP = Path(__file__).resolve().parents[1]
_COMMIT_FILE = Path(__file__).with_name("commit.txt")
"""Written by hatch_build.py into wheels and source distributions; a checkout has none."""


def version() -> str:
    """The release, such as ``0.2.0``; ``unknown`` where the package is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def commit() -> str | None:
    """The full commit id, ``-dirty`` appended if a checkout differs from it; None if nothing records it."""
    if _COMMIT_FILE.is_file():
        return _COMMIT_FILE.read_text().strip() or None
    if not (_TOP / ".git").exists():
        return None
    try:
        found = _git("rev-parse", "HEAD")
        return f"{found}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else found
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_TOP), *arguments], check=True, capture_output=True, text=True, timeout=10
    )  # fmt: skip
    return done.stdout.strip()


def install_command(extra: str, prefix: Path | None = None) -> str:
    """What installs an extra where this program runs: as the tool does that made its environment.

    Args: prefix, of the environment; default: this one's.
    """
    here = prefix or Path(sys.prefix)
    if (here / "uv-receipt.toml").exists():
        return f"uv tool install 'tspctl[{extra}]'"
    if (here / "pipx_metadata.json").exists():
        return f"pipx install --force 'tspctl[{extra}]'"
    return f"pip install 'tspctl[{extra}]'"
