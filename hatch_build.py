"""Build hooks: the commit in wheels and source distributions, and a README whose links work on PyPI.

The commit comes from SOURCE_COMMIT (the build of the image has no .git), from the record of a source distribution, or
from git.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

RECORD = "tsp/commit.txt"
_RELATIVE_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?![a-z]+:|#|/)[^)\s]+)\)")


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


class ReadmeHook(MetadataHookInterface):
    """README.md with links to the files of the release's tag: PyPI shows it without the repository around it."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme."""
        text = (Path(self.root) / "README.md").read_text()
        source, tag = metadata["urls"]["Source"], f"v{metadata['version']}"
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, source, tag)}


def absolute_links(text: str, source: str, tag: str) -> str:
    """Markdown whose relative links and pictures lead to a tag of a GitHub repository."""
    raw = source.replace("https://github.com", "https://raw.githubusercontent.com")

    def absolute(found: re.Match[str]) -> str:
        base = f"{raw}/{tag}" if found["picture"] else f"{source}/blob/{tag}"
        return f"{found['picture']}[{found['text']}]({base}/{found['target']})"

    return _RELATIVE_LINK.sub(absolute, text)


def _commit(top: Path) -> str:
    given = os.environ.get("SOURCE_COMMIT", "")
    if given or not (top / ".git").exists():
        return given
    done = subprocess.run(["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
