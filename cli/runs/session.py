"""What one command works with: settings, and the backends, stores and runs they lead to, each opened once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.options.shared import CLUSTER_KEYS, with_settings

if TYPE_CHECKING:
    from cli.backends.base import Backend, RunStatus
    from cli.options.settings import Settings
    from cli.runs.found_run import FoundRun
    from tsp.config.run import StoreConfig
    from tsp.run.stored_run import StoredRun
    from tsp.store.base import Store


class Session:
    """Settings, and what they lead to. Threads may share it."""

    def __init__(self, settings: Settings, given: frozenset[str] = frozenset()) -> None:
        """Args: given, keys of the settings that were options of the command line."""
        self.settings = settings
        self._given = given
        self._stores: dict[StoreConfig, Store] = {}

    @property
    def backend(self) -> Backend:
        """Where new runs go."""
        return self.backends[-1]

    @cached_property
    def backends(self) -> tuple[Backend, ...]:
        """Every backend that may know a run, in the order in which they are asked; the settings' own is the last."""
        from cli.backends.open import open_backend, open_backends

        if self._given.intersection(("backend", *CLUSTER_KEYS)):
            # Whoever says where a run lives means no run of that name elsewhere.
            return (open_backend(self.settings),)
        return open_backends(self.settings)

    def job_backend(self, kind: str, *, on_cluster: bool) -> Backend:
        """Where an auxiliary job runs: where its kind runs by default, unless --on-cluster was given."""
        from cli.backends.open import open_job_backend

        return open_job_backend(self.settings, kind, on_cluster=on_cluster)

    def store_config(self, uri: str | None = None) -> StoreConfig:
        """How to reach the settings' store, or another URI on the same server.

        Raises: ConfigError if no store is set.
        """
        from cli.options.store import store_config

        return store_config(self.settings, uri)

    def open_store(self, config: StoreConfig) -> Store:
        """A store; making an S3 client takes longer than a request, so each is made once."""
        from tsp.store.open import open_store

        if config not in self._stores:
            self._stores[config] = open_store(config)
        return self._stores[config]

    @property
    def store(self) -> Store:
        """The settings' own store."""
        return self.open_store(self.store_config())

    def stored_run(self, config: StoreConfig, name: str) -> StoredRun:
        """A run in a store, existing or not."""
        from tsp.run.stored_run import StoredRun

        return StoredRun(self.open_store(config), name)

    def find(self, text: str, *, only_training: bool = False) -> FoundRun:
        """The run that a command's RUN argument means.

        A text with a slash is a folder or URI of one run, ours or the original scripts'. A name is looked up in the
        backends, then in the store: the one the backend recorded, else the settings'.

        Args: only_training, refuse an auxiliary job: it stores no epochs.
        Raises: NoSuchRunError naming where it was looked for; ConfigError.
        """
        from cli.runs.found_run import FoundRun
        from tsp.errors import ConfigError, NoSuchRunError

        if "/" in text or text in (".", ".."):
            return FoundRun(self._run_in_folder(text), None, None)
        backend, status = self._ask_backends(text)
        if only_training and status is not None and status.kind != "train":
            raise ConfigError(
                f"{text} is a job ({status.kind}), which stores no epochs: give the name of a training run"
            )
        config = self._store_of(backend, status)
        run = self.stored_run(config, text)
        if status is None and not run.exists():
            raise NoSuchRunError(
                f"no run {text!r} in {config.uri}, and {backend.name} knows of none: "
                f"see 'tspctl list', or give --store or the run's folder (./{text})"
            )
        return FoundRun(run, backend, status)

    def _ask_backends(self, name: str) -> tuple[Backend, RunStatus | None]:
        """The first backend that knows the run and what it says; the settings' own where none does."""
        for backend in self.backends:
            status = backend.status(name)
            if status is not None:
                return backend, status
        return self.backend, None

    def _store_of(self, backend: Backend, status: RunStatus | None) -> StoreConfig:
        from cli.options.store import NOWHERE
        from tsp.config.run import StoreConfig
        from tsp.errors import ConfigError

        if status is not None and status.kind != "train":
            # A job has nothing in a store; whatever is asked of one finds nothing.
            return StoreConfig(uri=NOWHERE)
        if status is None:
            return self.store_config()
        if status.store is not None:
            self._refuse_other_store(status.name, status.store)
            return backend.store_from_here(status.store)
        try:
            return self.store_config()
        except ConfigError:
            # The backend knows the run all the same.
            return StoreConfig(uri=NOWHERE)

    def _refuse_other_store(self, name: str, recorded: StoreConfig) -> None:
        """Refuse a --store that would be ignored, since the run was submitted with another.

        Raises: ConfigError.
        """
        from tsp.errors import ConfigError

        if "store" not in self._given or self.store_config().uri.rstrip("/") == recorded.uri.rstrip("/"):
            return
        given = self.store_config().uri
        raise ConfigError(
            f"run {name} stores in {recorded.uri}, not in --store {given}: leave --store out, "
            f"or name the folder of another run ({given}/{name})"
        )

    def _run_in_folder(self, text: str) -> StoredRun:
        from cli.options.store import absolute_unless_uri
        from tsp.errors import NoSuchRunError

        uri = absolute_unless_uri(text).rstrip("/")
        if "://" not in uri:
            uri = str(Path(uri).resolve())
        parent, _, name = uri.rpartition("/")
        run = self.stored_run(self.store_config(parent or "/"), name)
        if not run.exists():
            raise NoSuchRunError(f"{text} holds no run: neither run.json nor results.txt nor epoch_N.pth is there")
        return run


def with_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that every command shares, and the ``session`` that they lead to."""

    @functools.wraps(command)
    def wrapper(*args: Any, settings: Settings, given: frozenset[str], **kwargs: Any) -> Any:
        return command(*args, session=Session(settings, given), **kwargs)

    return with_settings(wrapper)
