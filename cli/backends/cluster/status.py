"""The status of a run on a cluster, in the types that all backends share."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from cli.backends.base import LogLine
from cli.backends.log_lines import as_shown
from cli.backends.run_status import RankStatus, RunStatus
from k8s.names import OWNER_ANNOTATION, STORE_ANNOTATION, kind_of, ranks_of
from k8s.pod_log import Line
from k8s.release_record import Release
from k8s.run_list import RunView
from k8s.runs import Runs
from k8s.status import created_at, culprit, ended_at, pod_status
from k8s.why import why_pod
from k8s.why_release import why_without_job
from tsp.config.codec import from_dict
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, UnreachableError
from tsp.run.ownership import owner_of_namespace
from tsp.run.status import RunState

logger = logging.getLogger(__name__)


def run_status(view: RunView, *, pods_of: Runs | None = None) -> RunStatus:
    """State, reason and times of a run; with ``pods_of`` also each of its ranks with node and GPU."""
    job = view.job
    cause = culprit([pod_status(pod) for pod in view.pods]) if view.state == "failed" else None
    return RunStatus(
        name=job["metadata"]["name"],
        state=view.state,
        kind=kind_of(job),
        reason=view.reason,
        exit_code=cause.ended.exit_code if cause is not None and cause.ended is not None else None,
        gpus=ranks_of(job),
        created=created_at(job),
        ended=ended_at(job),
        ranks=tuple(rank for pod in view.pods for rank in _rank_status(pod, pods_of)) if pods_of is not None else (),
        store=recorded_store(job),
        owner=trainer_of(job),
    )


def trainer_of(job: dict[str, Any]) -> str | None:
    """The owner of a job's run, as passed to its pods."""
    metadata = job["metadata"]
    if said := (metadata.get("annotations") or {}).get(OWNER_ANNOTATION):
        return str(said)
    return owner_of_namespace(metadata["namespace"]) if metadata.get("namespace") else None


def release_status(release: Release, *, pods: int = 0) -> RunStatus:
    """An installation that has no job: it was refused, interrupted, or lost its job later. Args: pods, left of that."""
    state: RunState = "failed" if release.status == "failed" else "crashed"
    return RunStatus(name=release.name, state=state, reason=why_without_job(release, pods), created=release.created)


def _rank_status(pod: dict[str, Any], runs: Runs) -> Iterator[RankStatus]:
    """Each rank of a pod: they start, run and end together."""
    status, reason = pod_status(pod), why_pod(pod)
    for rank in status.ranks:
        yield RankStatus(
            rank=rank,
            state=status.state,
            where=status.node,
            gpu=runs.gpu_of(status.node),
            restarts=status.restarts,
            reason=reason,
            image=status.image_id,
        )


def recorded_store(job: dict[str, Any]) -> StoreConfig | None:
    """The store's settings as the chart recorded them with the job."""
    text = (job["metadata"].get("annotations") or {}).get(STORE_ANNOTATION)
    return _store_in(text) if text else None


@lru_cache(maxsize=64)
def _store_in(text: str) -> StoreConfig | None:
    """Kept, since most of a thousand runs have the same."""
    try:
        return from_dict(StoreConfig, json.loads(text), where=f"annotation {STORE_ANNOTATION}")
    except (ValueError, ConfigError) as error:
        logger.debug("%s", error)
        return None


def log_line(line: Line) -> LogLine:
    """A line as every backend gives it; the kubelet's stamp is the program's own to a moment."""
    return LogLine(line.rank, as_shown(line.rank, line.text)[1], line.time)


class WaitReasonLogger:
    """Says, once for each reason, why a followed run has no lines yet."""

    def __init__(self, runs: Runs, name: str) -> None:
        self._runs, self._name, self._last = runs, name, ""

    def __call__(self, pods: list[dict[str, Any]]) -> None:
        """Look again, unless every pod runs."""
        if pods and all(pod_status(pod).state in ("running", "succeeded", "failed") for pod in pods):
            return
        try:
            view = self._runs.view(self._name)
        except UnreachableError:
            return
        text = f"{view.state}: {view.reason or 'waiting for pods'}" if view is not None else ""
        if text and text != self._last:
            self._last = text
            logger.info("%s is %s", self._name, text)
