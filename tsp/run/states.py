"""Mid-epoch states of a run, from which a restarted attempt continues.

Each state has its own name, made of epoch, step and digest. ``latest.json`` names the newest state and the one before.
Order: data, verified; then the pointer; then other states are deleted. So after a crash at any point the pointer names
complete data, and a rank that is still reading the last state finds it.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from tsp.errors import MissingKeyError, StoreError, StoreUnreachableError
from tsp.run.folder import RunFolder
from tsp.run.records import StateMeta, dump_record

logger = logging.getLogger(__name__)

POINTER = "state/latest.json"


class StateFiles(RunFolder):
    """``state/<epoch>-<step>-<digest>.pth`` and ``state/latest.json``."""

    def publish_state(self, path: Path, meta: StateMeta) -> StateMeta:
        """Upload and verify a state, then make it the newest.

        Args: path, the state on this machine; meta, with its SHA-256.
        Returns: meta with the key it got.
        Raises: StoreError.
        """
        old = self.load_whole(StateMeta, POINTER)
        name = f"state/{meta.epoch:04d}-{meta.step:08d}-{meta.sha256[:12]}.pth"
        self.store.upload(self.key(name), path, sha256=meta.sha256)
        previous = old if old is None or old.key != name else old.previous
        if previous is not None:
            previous = dataclasses.replace(previous, previous=None)
        new = dataclasses.replace(meta, key=name, previous=previous)
        self.store.write(self.key(POINTER), dump_record(new))
        try:
            self._delete_states(keep={name, previous.key if previous else name})
        except StoreError as error:
            logger.warning("old states remain in the store: %s", error)
        return new

    def latest_state(self) -> StateMeta | None:
        """The newest state whose data has its full length; None if there is none."""
        for meta in self._candidates():
            try:
                if self.store.stat(self.key(meta.key)).size_bytes == meta.size_bytes:
                    return meta
            except MissingKeyError:
                pass
            logger.warning("%s names %s, which is missing or truncated", self.address(POINTER), meta.key)
        return None

    def download_state(self, path: Path) -> StateMeta:
        """Download the newest intact state, verified.

        Returns: the state that was used; the one before the newest if that is damaged. Raises: MissingKeyError if there
        is none; StoreError if none is intact; StoreUnreachableError.
        """
        failure: StoreError = MissingKeyError(f"{self.address(POINTER)} does not exist")
        for meta in self._candidates():
            try:
                self.store.download(self.key(meta.key), path, sha256=meta.sha256)
            except StoreUnreachableError:
                raise
            except StoreError as error:
                logger.warning("cannot resume from %s: %s", meta.key, error)
                failure = error
            else:
                return meta
        raise failure

    def clear_state(self) -> None:
        """Delete all states, as after the last epoch. The pointer goes first."""
        self.store.delete(self.key(POINTER))
        self._delete_states(keep=set())

    def _candidates(self) -> list[StateMeta]:
        newest = self.load_whole(StateMeta, POINTER)
        if newest is None:
            return []
        return [newest] if newest.previous is None else [newest, newest.previous]

    def _delete_states(self, keep: set[str]) -> None:
        kept = {self.key(name) for name in keep}
        for entry in list(self.store.list(self.key("state/"))):
            if entry.key.endswith(".pth") and entry.key not in kept:
                self.store.delete(entry.key)
