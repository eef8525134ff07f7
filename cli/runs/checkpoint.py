"""The argument RUN|CHECKPOINT: a run's epoch, a file or address, or a released checkpoint by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tsp.config.released import Released, released
from tsp.errors import ConfigError, NoSuchRunError
from tsp.run.epochs import is_checkpoint

if TYPE_CHECKING:
    from cli.runs.session import Session
    from tsp.config.store import StoreConfig
    from tsp.run.stored_run import StoredRun


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The checkpoint that RUN|CHECKPOINT names."""

    address: str
    """Path or URI of the checkpoint."""
    stem: str
    """What files made from it are called by default."""
    store: StoreConfig | None = None
    """The store of the run."""
    run: StoredRun | None = None
    released: Released | None = None

    def out_stem(self, folder: str) -> str:
        """Path of a default --out, without its suffix: in a folder of the run, or in the current one."""
        if self.run is None:
            return self.stem
        return self.run.store.address(self.run.key(folder, self.stem))

    @property
    def dataset(self) -> str | None:
        """Name of the data set that it was trained on, if that is known."""
        if self.released is not None:
            return self.released.dataset
        try:
            data = self.run.about()["config"].get("data") if self.run is not None else None
        except NoSuchRunError:
            # A run of the original scripts.
            return None
        return str(data["name"]) if isinstance(data, dict) and "name" in data else None


def find_checkpoint(session: Session, text: str, epoch: int | None) -> Checkpoint:
    """The checkpoint of a file, address or released name, or of a run: its best epoch, or the one asked for.

    Raises: ConfigError, NoSuchRunError, DataError (no epoch yet).
    """
    if is_checkpoint(text):
        if epoch is not None:
            raise ConfigError(f"--epoch needs a run, and {text} is a checkpoint")
        return Checkpoint(text, PurePosixPath(text).name.partition(".")[0])
    if "_" in text and "/" not in text:  # no run's name has an underscore
        known = released(text)
        if epoch is not None:
            raise ConfigError(f"--epoch needs a run, and {text} is a released checkpoint")
        return Checkpoint(known.address(session.settings.models_url), text, released=known)
    run = session.find(text, only_training=True).run
    chosen = run.best().epoch if epoch is None else epoch
    return Checkpoint(
        address=run.checkpoint_address(chosen),
        stem=f"epoch_{chosen}",
        store=replace(session.store_config(run.store.uri), uri=run.store.uri),
        run=run,
    )
