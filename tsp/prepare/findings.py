"""What ``check`` reports: one finding per trouble, with the file and the row it is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]
ERROR: Severity = "error"
WARNING: Severity = "warning"


@dataclass(frozen=True, slots=True)
class DataFinding:
    """One trouble."""

    severity: Severity
    """``error``: a run fails or trains wrongly; ``warning``: it goes on, but look."""
    subset: str
    """``train``, ``valid``, or ``both``."""
    file: str
    """The table, video, label map or GVF file it is in."""
    row: int | None
    """Line of the table, counting its header as 1; None if it is not about one row."""
    message: str

    def as_row(self) -> dict[str, Any]:
        """Plain data, for the answer."""
        return {
            "severity": self.severity,
            "subset": self.subset,
            "file": self.file,
            "row": self.row,
            "message": self.message,
        }


def count(findings: Iterable[DataFinding], severity: Severity) -> int:
    """How many findings are of that severity."""
    return sum(finding.severity == severity for finding in findings)


def in_order(findings: Iterable[DataFinding]) -> list[DataFinding]:
    """Errors first, then by subset, file and row."""
    return sorted(findings, key=lambda f: (f.severity != ERROR, f.subset, f.file, f.row or 0, f.message))
