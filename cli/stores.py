"""The stores of one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tsp.config.store import StoreConfig
    from tsp.run.stored_run import StoredRun
    from tsp.store.base import Store


class Stores:
    """Each is opened once: creating an S3 client takes longer than a request. Threads may share them."""

    def __init__(self) -> None:
        self._opened: dict[StoreConfig, Store] = {}

    def open(self, config: StoreConfig) -> Store:
        """The store with these connection settings."""
        from tsp.store.open import open_store

        if config not in self._opened:
            self._opened[config] = open_store(config)
        return self._opened[config]

    def run(self, config: StoreConfig, name: str) -> StoredRun:
        """A run in a store; it need not exist."""
        from tsp.run.stored_run import StoredRun

        return StoredRun(self.open(config), name)
