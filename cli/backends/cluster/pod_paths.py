"""Refuses paths that pods cannot see, before anything is sent to a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tsp.config.job import Job, given_paths
from tsp.config.jobs import RunJob
from tsp.config.run import LOCAL_PATHS, RunConfig, local_paths
from tsp.errors import ConfigError

if TYPE_CHECKING:
    from tsp.config.recipes import Dataset


def refuse_paths_beside(config: RunConfig, dataset: Dataset, *, where: str) -> None:
    """Refuse paths relative to a data-set file: the files are on this machine, and pods would look for them there.

    Args: dataset, as read from the file ``where``.
    Raises: ConfigError naming each path.
    """
    filled = {
        path.replace("{backbone}", config.model.backbone).replace("{pool}", config.model.gvf) for path in dataset.beside
    }
    found = [f"{key} ({path})" for key, path in _data_paths(config) if path in filled]
    if found:
        raise ConfigError(
            f"{where}: {', '.join(found)} {'is' if len(found) == 1 else 'are'} next to that file on this "
            "machine, where pods cannot read: copy them to the data set (--data, s3:// or a volume of the pods), and "
            "write paths relative to it, without ./"
        )


def refuse_relative_paths(config: RunConfig) -> None:
    """Refuse a path that depends on the folder one is in.

    Raises: ConfigError naming the option.
    """
    for key, path in local_paths(config).items():
        _refuse_relative(LOCAL_PATHS[key], path)


def refuse_relative_job_paths(job: Job) -> None:
    """The same for an auxiliary job."""
    for field, path in given_paths(job):
        _refuse_relative(field.option, path)
    if isinstance(job, RunJob):
        refuse_relative_paths(job.config)


def _refuse_relative(what: str, path: str) -> None:
    if "://" not in path and not path.startswith("/"):
        raise ConfigError(
            f"{what} {path} is relative to a folder of this machine, which pods cannot see: give an s3:// address, "
            "or the absolute path of the file in a volume of the pods"
        )


def _data_paths(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Keys of a data-set file, and the paths that the run reads under them."""
    yield "root", config.data.root
    for name, subset in (("train", config.data.train), ("valid", config.data.valid)):
        yield f"{name}.csv", subset.csv
        yield f"{name}.videos", subset.videos
        if subset.gvf is not None and config.model.gvf != "none":
            yield "gvf", subset.gvf
    yield from ((f"labels.{head.label_column}", head.labels) for head in config.model.heads)


def refuse_paths_of_this_machine(config: RunConfig, dataset: str | None) -> None:
    """Refuse files that only this machine sees: files next to a data-set file, and relative paths.

    Args: dataset, a name or the path of a data-set file; None if there is none.
    Raises: ConfigError naming each path.
    """
    from tsp.config.recipes import load_dataset

    if dataset is not None:
        refuse_paths_beside(config, load_dataset(dataset), where=dataset)
    refuse_relative_paths(config)
