"""What ``check`` reports: one finding per problem, with its file and row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]
ERROR: Severity = "error"
WARNING: Severity = "warning"


@dataclass(frozen=True, slots=True)
class DataFinding:
    """One problem of a data set."""

    severity: Severity
    """``error``: a run would fail or train wrongly; ``warning``: it would run, but the data looks wrong."""
    subset: str
    """``train``, ``valid``, or ``both``."""
    file: str
    """The table, video, label map or GVF file that has it."""
    row: int | None
    """Line of the table, its header being 1; None if no single row is affected."""
    message: str

    def as_row(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "severity": self.severity,
            "subset": self.subset,
            "file": self.file,
            "row": self.row,
            "message": self.message,
        }


_ORDER = (ERROR, WARNING)


def count(findings: Iterable[DataFinding], severity: Severity) -> int:
    """Number of findings of that severity."""
    return [finding.severity for finding in findings].count(severity)


def in_order(findings: Iterable[DataFinding]) -> list[DataFinding]:
    """Errors first, then by subset, file and row."""
    return sorted(findings, key=lambda f: (_ORDER.index(f.severity), f.subset, f.file, f.row or 0, f.message))
