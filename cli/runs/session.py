"""The context of one command: settings, backends, stores and runs, each opened once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.options.backend_names import BACKENDS
from cli.options.shared import CLUSTER_KEYS, with_settings
from cli.stores import Stores

if TYPE_CHECKING:
    from cli.backends.base import Backend
    from cli.backends.run_status import RunStatus
    from cli.options.settings import Settings
    from cli.runs.found_run import FoundRun
    from tsp.config.store import StoreConfig
    from tsp.run.stored_run import StoredRun
    from tsp.store.base import Store


class Session:
    """Settings, and the backends and stores they name. Threads may share it."""

    def __init__(self, settings: Settings, given: frozenset[str] = frozenset()) -> None:
        """Args: given, keys of the settings that were given as options."""
        self.settings = settings
        self._given = given
        self._stores = Stores()

    @property
    def shared_options(self) -> list[str]:
        """The shared options of this command line, for another command on the same runs."""
        given = {f"--{key.replace('_', '-')}": getattr(self.settings, key) for key in sorted(self._given)}
        return [word for option in given.items() for word in option]

    @property
    def backend(self) -> Backend:
        """The backend of new runs."""
        return self.backends[-1]

    @cached_property
    def backends(self) -> tuple[Backend, ...]:
        """Backends that may have a run, in the order of the search; that of the settings is the last."""
        from cli.backends.open import open_backend, open_backends

        if self._given.intersection(("backend", *CLUSTER_KEYS)):
            # With an explicit location, a run of that name elsewhere is not meant.
            return (open_backend(self.settings, self._stores),)
        return open_backends(self.settings, self._stores)

    def job_backend(self, kind: str, *, on_cluster: bool) -> Backend:
        """The backend of an auxiliary job: its kind's default, unless --on-cluster was given.

        Raises: ConfigError for options that would be ignored.
        """
        from cli.backends.open import open_job_backend
        from tsp.config.jobs import JOBS
        from tsp.errors import ConfigError

        takes_cluster_options = BACKENDS[self.settings.backend].takes_cluster_options
        if on_cluster and "backend" in self._given and not takes_cluster_options:
            raise ConfigError(f"--on-cluster and --backend {self.settings.backend} are mutually exclusive")
        if JOBS[kind].runs_in_place and not on_cluster and takes_cluster_options:
            for key in ("backend", *CLUSTER_KEYS):
                if key in self._given:
                    raise ConfigError(f"--{key} has no effect: this job runs on this machine; add --on-cluster")

        return open_job_backend(self.settings, self._stores, kind, on_cluster=on_cluster)

    def store_config(self, uri: str | None = None) -> StoreConfig:
        """Connection settings of the settings' store, or of another URI on the same server.

        Raises: ConfigError if no store is set.
        """
        from cli.options.store import store_config

        return store_config(self.settings, uri)

    def open_store(self, config: StoreConfig) -> Store:
        """A store, opened once for the command and its backends."""
        return self._stores.open(config)

    @property
    def store(self) -> Store:
        """The store of the settings."""
        return self.open_store(self.store_config())

    def stored_run(self, config: StoreConfig, name: str) -> StoredRun:
        """A run in a store; it need not exist."""
        return self._stores.run(config, name)

    def find(self, text: str, *, only_training: bool = False) -> FoundRun:
        """The run that a command's RUN argument names.

        Text with a slash is the folder or URI of a run, ours or the original scripts'. A name is looked up in the
        backends, then in the store: the one that the backend recorded, else that of the settings.

        Args: only_training, the command needs what a training run has stored; an auxiliary job stores no epochs.
        Raises: NoSuchRunError naming where it was searched; ConfigError; StoreError if all files of the run are gone.
        """
        from cli.runs.found_run import FoundRun
        from tsp.errors import ConfigError, NoSuchRunError, StoreError

        if "/" in text or text in (".", ".."):
            return FoundRun(self._run_in_folder(text), None, None)
        backend, status = self._ask_backends(text)
        if only_training and status is not None and status.kind != "train":
            raise ConfigError(f"{text} is a job ({status.kind}), which has no epochs: give a training run")
        config = self._store_of(backend, status)
        run = self.stored_run(config, text)
        if status is None and not run.exists():
            raise NoSuchRunError(
                f"no run {text!r} in {config.uri} or in the {backend.name} backend: "
                f"see 'tspctl list', or give --store or the run's folder (./{text})"
            )
        found = FoundRun(run, backend, status)
        if only_training and found.has_lost_its_files():
            raise StoreError(found.without_files)
        return found

    def _ask_backends(self, name: str) -> tuple[Backend, RunStatus | None]:
        """The first backend that has the run, and its status; the backend of the settings if none has it."""
        for backend in self.backends:
            status = backend.status(name)
            if status is not None:
                return backend, status
        return self.backend, None

    def _store_of(self, backend: Backend, status: RunStatus | None) -> StoreConfig:
        from cli.options.store import NOWHERE
        from tsp.config.store import StoreConfig
        from tsp.errors import ConfigError

        if status is not None and status.kind != "train":
            # A job has nothing in a store.
            return StoreConfig(uri=NOWHERE)
        if status is None:
            return self.store_config()
        if status.store is not None:
            self._refuse_other_store(status.name, status.store)
            return backend.store_from_here(status.store)
        try:
            return self.store_config()
        except ConfigError:
            # No store is set, but the backend has the run.
            return StoreConfig(uri=NOWHERE)

    def _refuse_other_store(self, name: str, recorded: StoreConfig) -> None:
        """Refuse a --store that would be ignored because the run was submitted with another.

        Raises: ConfigError.
        """
        from tsp.errors import ConfigError

        if "store" not in self._given or self.store_config().uri.rstrip("/") == recorded.uri.rstrip("/"):
            return
        given = self.store_config().uri
        raise ConfigError(
            f"run {name} uses the store {recorded.uri}, not --store {given}: omit --store, or give the folder of "
            f"another run ({given}/{name})"
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
            raise NoSuchRunError(f"{text} is not a run: it has neither run.json nor results.txt nor epoch_N.pth")
        return run


def with_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command, which gets a ``session`` in their place."""

    @functools.wraps(command)
    def wrapper(*args: Any, settings: Settings, given: frozenset[str], **kwargs: Any) -> Any:
        return command(*args, session=Session(settings, given), **kwargs)

    return with_settings(wrapper)
