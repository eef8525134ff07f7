"""Deliberate mistakes in the code under test, each of which some schedule must notice."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from cli.backends.local.run_folder import LocalRun
from tests.simulation.local_schedule import LocalSchedule
from tests.simulation.schedule import Schedule
from tsp.errors import StoreUnreachableError
from tsp.run.epochs import EpochFiles
from tsp.run.records import EpochRecord, StateMeta, dump_record
from tsp.run.states import POINTER, StateFiles
from tsp.run.stored_run import StoredRun
from tsp.run.uploader import Uploader
from tsp.store.s3.store import S3Store


def nothing(*_: Any, **__: Any) -> None:
    """Instead of something that must be done."""


def _pointer_first(run: StateFiles, path: Path, meta: StateMeta) -> StateMeta:
    key = f"state/{meta.epoch:04d}-{meta.step:08d}-{meta.sha256[:12]}.pth"
    run.store.write(run.key(POINTER), dump_record(StateMeta(**{**_fields(meta), "key": key})))
    run.store.upload(run.key(key), path, sha256=meta.sha256)
    return meta


def _fields(meta: StateMeta) -> dict[str, Any]:
    return {name: getattr(meta, name) for name in ("epoch", "step", "attempt", "sha256", "size_bytes")}


def _record_first(run: EpochFiles, path: Path, record: EpochRecord) -> None:
    run.publish_record(record)
    run.publish_checkpoint(record.epoch, path, sha256=record.sha256)


def _prune_all_but_the_newest(run: EpochFiles, keep_epochs: int, **_: Any) -> list[int]:
    old = sorted(run.checkpoints())[:-1] if keep_epochs else []
    for epoch in old:
        run.store.delete(run.key(f"epoch_{epoch}.pth"))
    return old


def _give_up_quietly(uploader: Uploader, job: Any) -> None:
    with contextlib.suppress(StoreUnreachableError):
        job.publish()


def _delete_the_newest_state_too(run: StateFiles, keep: set[str]) -> None:
    for entry in list(run.store.list(run.key("state/"))):
        if entry.key.endswith(".pth"):
            run.store.delete(entry.key)


def _keep_the_outcome(run: StoredRun) -> int:
    attempt = run.last_attempt() + 1
    run.store.write(run.key("state", "attempt.json"), b'{"attempt": %d}' % attempt)
    return attempt


def _always_write(store: S3Store, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
    store._write(key, data, "")


def _take_whatever_is_there(local: LocalRun) -> None:
    local.folder.mkdir(parents=True, exist_ok=True)
    local.note_submitter()


@contextlib.contextmanager
def _no_claim(_: LocalRun) -> Iterator[None]:
    yield


def _same_draw() -> Any:
    return types.SimpleNamespace(uuid4=lambda: types.SimpleNamespace(hex="0"))


PODS, LOCAL = Schedule, LocalSchedule
BREAKS: dict[str, tuple[Callable[..., Schedule], dict[str, Any]]] = {
    "the pointer to a state is written before the state": (
        PODS, {"tsp.run.states.StateFiles.publish_state": _pointer_first}),
    "states are deleted that the pointer names": (
        PODS, {"tsp.run.states.StateFiles._delete_states": _delete_the_newest_state_too}),
    "an epoch is recorded before its checkpoint is there": (
        PODS, {"tsp.run.epochs.EpochFiles.publish_epoch": _record_first}),
    "results.txt is not rebuilt": (PODS, {"tsp.run.epochs.EpochFiles.rebuild_results": nothing}),
    "the best epoch is thinned out": (PODS, {"tsp.run.epochs.EpochFiles.prune_epochs": _prune_all_but_the_newest}),
    "an epoch is dropped when the store is away": (PODS, {"tsp.run.uploader.Uploader._publish": _give_up_quietly}),
    "a failure is not written down": (PODS, {"tsp.train.attempt._write_failure": nothing}),
    "a new attempt leaves the old outcome": (PODS, {"tsp.run.stored_run.StoredRun.start_attempt": _keep_the_outcome}),
    "run.json replaces another's": (LOCAL, {"tsp.store.s3.store.S3Store.write": _always_write}),
    "two submits of a second cannot be told apart": (
        LOCAL, {"tsp.run.stored_run.uuid": _same_draw(), "cli.backends.local.launch.uuid": _same_draw()}),
    "a run is resumed wherever somebody resumes it": (
        LOCAL,
        {"cli.backends.local.lifecycle.refuse_anothers": nothing, "cli.backends.local.lifecycle.take": nothing,
         "tsp.train.attempt.take": nothing},
    ),
    "a second submit takes the first one's folder": (
        LOCAL, {"cli.backends.local.run_folder.LocalRun.reserve": _take_whatever_is_there}),
    "ranks of a killed supervisor are not stopped": (LOCAL, {"cli.backends.local.supervisor.stop": nothing}),
    "delete does not stop ranks without supervisor": (LOCAL, {"cli.backends.local.lifecycle.stop": nothing}),
    "two resumes take over at once": (
        LOCAL,
        {
            "cli.backends.local.lifecycle.claimed": _no_claim,
            "cli.backends.local.lifecycle._becomes_unsupervised": lambda local: True,
            "cli.backends.local.supervisor.lock_file": nothing,
            "cli.backends.local.supervisor.is_alive": nothing,
        },
    ),
    "a lost peer is not restarted": (LOCAL, {"tsp.run.rank_group.is_permanent": lambda code: code > 0}),
    "a supervisor does not write how the run ended": (
        LOCAL, {"cli.backends.local.run_folder.LocalRun.write_outcome": nothing}),
}  # fmt: skip


SEEN_BY = {
    "the best epoch is thinned out": 14,
    "an epoch is dropped when the store is away": 30,
    "a run is resumed wherever somebody resumes it": 38,
    "ranks of a killed supervisor are not stopped": 91,
    "a lost peer is not restarted": 30,
}
"""A schedule that notices a mistake which few notice: where to look first."""


@contextlib.contextmanager
def broken(name: str) -> Iterator[Callable[..., Schedule]]:
    """The code with one mistake. Yields: the kind of schedule that must notice."""
    make, patches = BREAKS[name]
    with contextlib.ExitStack() as stack:
        for target, value in patches.items():
            stack.enter_context(mock.patch(target, value))
        yield make
