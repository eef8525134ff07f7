"""Hook of the documentation: includes sections of the project's README and other files, and adjusts their links.

A line ``<!-- include: README.md ## On a cluster -->`` becomes that section, without its heading; without a heading it
becomes the whole file below its title. So text that appears twice has one source.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_INCLUDE = re.compile(r"^<!-- include: (?P<file>\S+)(?: (?P<heading>#+ .+?))? -->$", re.MULTILINE)
_LINK = re.compile(r"(?P<open>\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Called by mkdocs for each page before it is rendered."""
    folder = (DOCS / page.file.src_uri).parent
    repository = str(config["repo_url"]).rstrip("/")
    own = with_links(markdown, written_in=folder, read_in=folder, repository=repository)
    return _INCLUDE.sub(lambda found: _included(found, folder, repository), own)


def _included(found: re.Match[str], folder: Path, repository: str) -> str:
    source = ROOT / found["file"]
    text = section_of(source.read_text(), found["heading"])
    if text is None:
        raise ValueError(f"{found['file']} has no section {found['heading']!r}")
    return with_links(text, written_in=source.parent, read_in=folder, repository=repository)


def section_of(text: str, heading: str | None) -> str | None:
    """What stands below a heading, up to the next of its level or a higher one; of the whole text without one."""
    if heading is None:
        return text.partition("\n")[2].strip()
    lines, inside, in_code, kept = text.splitlines(), False, False, []
    level = len(heading) - len(heading.lstrip("#"))
    for line in lines:
        in_code ^= line.startswith("```")
        is_heading = not in_code and re.match(r"#+ ", line) is not None
        if inside and is_heading and len(line) - len(line.lstrip("#")) <= level:
            break
        if inside:
            kept.append(line)
        inside = inside or (is_heading and line == heading)
    return "\n".join(kept).strip() if inside else None


def with_links(text: str, *, written_in: Path, read_in: Path, repository: str) -> str:
    """Adjust links of one folder for another; those that lead out of the documentation point to the repository."""

    def mended(found: re.Match[str]) -> str:
        target = (written_in / found["target"]).resolve()
        anchor = found["anchor"] or ""
        if not target.exists():
            return found[0]  # mkdocs, which is strict, reports it
        if target.is_relative_to(DOCS):
            return f"{found['open']}{os.path.relpath(target, read_in)}{anchor})"
        kind = "tree" if target.is_dir() else "blob"
        return f"{found['open']}{repository}/{kind}/main/{target.relative_to(ROOT)}{anchor})"

    return _LINK.sub(mended, text)
