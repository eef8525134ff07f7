"""Auxiliary jobs done in the test's own process, as the entrypoint does them."""

from __future__ import annotations

import importlib
from typing import Any

from tsp.config.jobs import job_from_dict


def do_job(kind: str, request: dict[str, Any]) -> dict[str, Any]:
    """What the job answers, with its exit code."""
    job = job_from_dict(kind, request)
    module, _, name = job.function.partition(":")
    answer = getattr(importlib.import_module(module), name)(job)
    return {**answer.to_dict(), "exit_code": answer.exit_code}
