"""Build hook: records the commit in wheels and source distributions, where git is no longer there to ask.

The commit comes from SOURCE_COMMIT (the build of the image has no .git), from the record of a source distribution, or
from git.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RECORD = "tsp/commit.txt"


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds ``tsp/commit.txt``."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the record, unless the tree has one (a source distribution) or the install is editable."""
        top = Path(self.root)
        if version == "editable" or (top / RECORD).exists():
            return
        record = Path(self.directory) / "commit.txt"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(f"{_commit(top)}\n")
        build_data["force_include"][str(record)] = RECORD

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing but the artifact."""
        (Path(self.directory) / "commit.txt").unlink(missing_ok=True)


def _commit(top: Path) -> str:
    given = os.environ.get("SOURCE_COMMIT", "")
    if given or not (top / ".git").exists():
        return given
    done = subprocess.run(["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
