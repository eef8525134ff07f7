"""Find a run by its name, or by the path or URI of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.backends.base import Backend, RunStatus
from cli.backends.local.run_folder import local_run
from cli.backends.open import open_backend
from cli.options.store import absolute_unless_uri, default_store, store_config
from tsp.config.run import StoreConfig
from tsp.errors import ConfigError, NoSuchRunError
from tsp.run.stored_run import StoredRun
from tsp.store.open import open_store

if TYPE_CHECKING:
    from cli.options.settings import Settings


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run: what its store and what its place know."""

    run: StoredRun
    backend: Backend | None
    """None for a folder, which belongs to no place."""
    place: RunStatus | None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def is_job(self) -> bool:
        """Whether it is a job beside training, of which no store knows."""
        return self.place is not None and self.place.kind != "train"

    def at_a_place(self) -> Backend:
        """The backend that can stop and start it.

        Raises: ConfigError for a run that was named by its folder.
        """
        if self.backend is None:
            raise ConfigError(f"{self.run.name} was given as a folder: give the run's name and --store instead")
        return self.backend


def find_run(settings: Settings, text: str, *, only_training: bool = False) -> FoundRun:
    """The run that a command's RUN argument means.

    A text with a slash is a folder or URI of one run, ours or the original scripts'. A name is looked up where runs
    live, then in the store: the one given, the one the place recorded, or the settings'.

    Args: only_training, refuse a job beside training: it stores no epochs.
    Raises: NoSuchRunError saying where was looked; ConfigError.
    """
    if "/" in text or text in (".", ".."):
        return FoundRun(_run_in_folder(settings, text), None, None)
    backend = open_backend(settings, "local" if local_run(text).launch() else None)
    place = backend.status(text)
    if only_training and place is not None and place.kind != "train":
        raise ConfigError(f"{text} is a job ({place.kind}), which stores no epochs: give the name of a training run")
    config = _store_of(settings, place)
    run = StoredRun(open_store(config), text)
    if place is None and not run.exists():
        raise NoSuchRunError(
            f"no run {text!r} in {config.uri}, and {backend.name} knows of none: "
            f"see 'tspctl list', or give --store or the run's folder (./{text})"
        )
    return FoundRun(run, backend, place)


def _store_of(settings: Settings, place: RunStatus | None) -> StoreConfig:
    recorded = place.store if place else None
    if place is not None and place.kind != "train":
        # A job has nothing in a store; whatever is asked of one finds nothing.
        return StoreConfig(uri=str(default_store()))
    if recorded is None:
        return store_config(settings)
    if place is not None and settings.backend != "local" and "://" in recorded.uri:
        # Pods may reach the server under another address than this machine does.
        return store_config(settings, recorded.uri)
    return recorded


def _run_in_folder(settings: Settings, text: str) -> StoredRun:
    uri = absolute_unless_uri(text).rstrip("/")
    if "://" not in uri:
        uri = str(Path(uri).resolve())
    parent, _, name = uri.rpartition("/")
    run = StoredRun(open_store(store_config(settings, parent or "/")), name)
    if not run.exists():
        raise NoSuchRunError(f"{text} holds no run: neither run.json nor results.txt nor epoch_N.pth is there")
    return run
