"""The page: template, style and script of this folder, and the facts, in one file that makes no requests."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from cli.output import plain
from cli.runs.comparison import differences

PLACEHOLDERS = ("STYLE", "SCRIPT", "DATA", "SUMMARY", "TITLE")


def document(runs: Sequence[Mapping[str, Any]], *, made: str) -> str:
    """The HTML of a page.

    Args: runs, as ``run_facts`` returns them; made, by what and when.
    """
    names = ", ".join(str(run["name"]) for run in runs)
    parts = {
        "STYLE": _asset("report.css"),
        "SCRIPT": _asset("report.js"),
        "DATA": as_json({"runs": list(runs), "differences": differences(runs), "made": made}),
        "SUMMARY": _summary(runs),
        "TITLE": html.escape(names),
    }
    # One pass, so that a placeholder inside a run's own text stays text.
    pieces = _asset("report.html").split("%%")
    return "".join(parts[piece] if piece in PLACEHOLDERS else piece for piece in pieces)


def as_json(value: Any) -> str:
    """JSON for a script element: tags are escaped, numbers that are not finite are null."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return resources.files("cli.page").joinpath(name).read_text(encoding="utf-8")


def _summary(runs: Sequence[Mapping[str, Any]]) -> str:
    """The best epochs as a table, for readers without script."""
    rows = []
    for run in runs:
        best = next((epoch for epoch in run["epochs"] if epoch["epoch"] == run["best_epoch"]), None)
        shown = f"{best['accuracy']:.3f} (epoch {best['epoch']})" if best else "none"
        cells = (run["name"], run["state"], shown, str(len(run["epochs"])))
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>Run</th><th>State</th><th>Best average accuracy, %</th><th>Epochs</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
