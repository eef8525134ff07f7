"""A table of results that is on disk after each row."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Report:
    """Rows, written to both files as they come."""

    path: Path
    title: str
    facts: dict[str, str]
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, part: str, what: str, result: str) -> None:
        """A row."""
        self.rows.append({"part": part, "what": what, "result": result})
        print(f"{part}: {what}: {result}", flush=True)
        lines = [f"# {self.title}", "", *(f"- {name}: {value}" for name, value in self.facts.items()), ""]
        lines += ["| part | what | result |", "|---|---|---|"]
        lines += [f"| {row['part']} | {row['what']} | {row['result']} |" for row in self.rows]
        self.path.with_suffix(".md").write_text("\n".join(lines) + "\n")
        content = {"title": self.title, "facts": self.facts, "rows": self.rows}
        self.path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
