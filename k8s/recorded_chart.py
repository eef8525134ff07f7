"""The chart of a release as Helm's record has it: what a run was installed with can be installed again.

A later chart may refuse values that an earlier one accepted, or read them otherwise.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from k8s.helm import Chart


@contextmanager
def recorded_chart(content: Mapping[str, Any]) -> Iterator[Chart | None]:
    """A chart in a temporary folder; None if the record lacks it.

    Args: content, of a release (``Releases.content``).
    """
    chart = content.get("chart") or {}
    if not chart.get("metadata") or not chart.get("templates"):
        yield None
        return
    with TemporaryDirectory(prefix="tspctl-chart-") as folder:
        for name, text in _files(chart):
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        yield Chart(reference=folder)


def _files(chart: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield "Chart.yaml", yaml.safe_dump(chart["metadata"]).encode()
    yield "values.yaml", yaml.safe_dump(chart.get("values") or {}).encode()
    if chart.get("schema"):
        yield "values.schema.json", base64.b64decode(chart["schema"])
    for item in [*chart["templates"], *(chart.get("files") or [])]:
        name = PurePosixPath(str(item["name"]))
        # Whoever may write Secrets may write a record.
        if not name.is_absolute() and ".." not in name.parts:
            yield str(name), base64.b64decode(item.get("data") or "")
