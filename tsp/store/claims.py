"""Writing an object alone, on servers without conditional writes, or that accept the condition and ignore it, and in
folders that several machines share.

Problem: two writers that check, find nothing and write both believe that they were first.
Idea: each writes its own claim next to the key before it checks, and checks for claims as well. A writer that sees
another's claim withdraws its own and tries again a little later. Of two writers, the later one sees the earlier one's
claim or, if that is already gone, the object.
Invariants: at most one continues, provided that lists and reads show earlier writes; a claim that a dead process left
counts for ``CLAIM_SEC`` by the store's clock.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

from tsp.errors import StoreError
from tsp.store.base import KeyExistsError, Store

logger = logging.getLogger(__name__)

CLAIM_SEC = 60.0
"""Twice as long as whoever claims may take until it writes."""
MOST_PAUSE_SEC = 2.0
SILENT_SEC = 5.0
"""Longer than writers that are alive hold a claim."""


@contextlib.contextmanager
def only_writer(store: Store, key: str) -> Iterator[None]:
    """Be the only one that writes a key while the block lasts.

    Raises: KeyExistsError if it exists; StoreError while another one is about to write it.
    """
    with _alone(store, key):
        if store.exists(key):
            raise KeyExistsError(f"{store.address(key)} exists already")
        yield


def replace_claimed(store: Store, key: str, data: bytes, *, expected: bytes | None) -> bool:
    """As ``Store.replace``, for writers that all use this function."""
    with _alone(store, key):
        if store.content(key) != expected:
            return False
        store.write(key, data)
    return True


@contextlib.contextmanager
def _alone(store: Store, key: str) -> Iterator[None]:
    start, is_told = time.monotonic(), False
    while (waited_sec := time.monotonic() - start) < 2 * CLAIM_SEC:
        if waited_sec > SILENT_SEC and not is_told:
            is_told = True
            logger.warning(
                "another process has claimed %s: waiting until it has written it, or for %.0f s if it was killed",
                store.address(key), CLAIM_SEC,
            )  # fmt: skip
        began, mine = time.monotonic(), f"{key}.claim-{uuid.uuid4().hex}"
        try:
            store.write(mine, b"")
            if _is_alone(store, key, mine) and time.monotonic() - began < CLAIM_SEC / 2:
                yield
                return
        finally:
            with contextlib.suppress(StoreError):
                store.delete(mine)
        time.sleep(random.uniform(0.1, MOST_PAUSE_SEC))  # noqa: S311, a pause
    raise StoreError(
        f"{store.address(key)} was not written: for {2 * CLAIM_SEC:.0f} s other writers have claimed it (with the "
        f"objects {key}.claim-...): try again later"
    )


def _is_alone(store: Store, key: str, mine: str) -> bool:
    claims = {entry.key: entry.modified for entry in store.list(f"{key}.claim-")}
    now = claims.pop(mine, None)
    if now is None:
        return False
    expired = [other for other, since in claims.items() if now - since > timedelta(seconds=CLAIM_SEC)]
    for other in expired:
        with contextlib.suppress(StoreError):
            store.delete(other)
    return len(expired) == len(claims)
