"""The layout of one run's folder in a store."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from tsp.config.codec import json_text
from tsp.errors import MissingKeyError, StoreError, StoreUnreachableError
from tsp.run.records import load_record
from tsp.store.base import Store, join_key

T = TypeVar("T")
logger = logging.getLogger(__name__)


class RunFolder:
    """One run's folder. ``name`` may be any folder of an original run; "" is the store itself."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address()!r})"

    def key(self, *parts: str) -> str:
        """Key of one of the run's files."""
        return join_key(self.name, *parts)

    def address(self, *parts: str) -> str:
        """Its whole URI, for messages."""
        return join_key(self.store.uri, self.key(*parts))

    def load(self, cls: type[T], name: str) -> T | None:
        """A record, or None if it is not there.

        Raises: StoreError if it is damaged.
        """
        try:
            data = self.store.read(self.key(name))
        except MissingKeyError:
            return None
        return load_record(cls, data, where=self.address(name))

    def load_whole(self, cls: type[T], name: str) -> T | None:
        """As ``load``, but a damaged record counts as missing: for an active run, which rewrites it."""
        try:
            return self.load(cls, name)
        except StoreUnreachableError:
            raise
        except StoreError as error:
            logger.warning("passed over: %s", error)
            return None


def dump_plain(values: dict[str, Any]) -> bytes:
    """Plain values as JSON text."""
    return json_text(values).encode()
