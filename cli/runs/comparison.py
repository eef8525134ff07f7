"""Several runs in one table: their best epochs, and the settings in which they differ."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tsp.config.codec import flat
from tsp.errors import NoSuchRunError, StoreError, TspError
from tsp.run.results import EpochResult, best_or_none

if TYPE_CHECKING:
    from cli.runs.several import NamedRun

logger = logging.getLogger(__name__)


_NO_DIFFERENCE = ("name", "store.")
"""Settings in which any two runs differ."""


@dataclass(slots=True)
class ComparedRun:
    """One run of a comparison."""

    name: str
    epochs: list[EpochResult]
    best: EpochResult | None
    """None before its first validation, or while every figure is nan."""
    differs: dict[str, Any] = field(default_factory=dict)
    """Setting -> its value, for those in which the runs differ; None where it recorded none."""

    @property
    def sort_key(self) -> tuple[float, str]:
        """The highest Avg Accuracy first, runs without one last."""
        return (-self.best.avg_accuracy_percent if self.best else math.inf, self.name)


def compare(several: Sequence[NamedRun]) -> list[ComparedRun]:
    """The runs, the best first. One that cannot be read is shown as far as it can, with a warning.

    Raises: what reading the first one failed with, if none of them could be read.
    """
    runs, configs, failures = [], [], []
    for item in several:
        name = item.name
        try:
            readable, damaged = item.found.run.readable_results()
            epochs = list(readable.values())
            for error in damaged:
                logger.warning("%s: %s", name, error)
        except TspError as error:
            failures.append(error)
            logger.warning("%s: %s", name, error)
            epochs = []
        runs.append(ComparedRun(name, epochs, best_or_none(epochs)))
        configs.append({"config": _settings(item)})
    if len(failures) == len(several):
        raise failures[0]
    for key, values in differences(configs).items():
        for run, value in zip(runs, values, strict=True):
            run.differs[key] = value
    return sorted(runs, key=lambda run: run.sort_key)


def refuse_missing(failures: Sequence[StoreError], done: str) -> None:
    """End with an error after the possible work is done.

    Args: failures, of single epochs; done, what was done without them.
    Raises: the first failure; nothing if there is none.
    """
    if failures:
        for failure in failures[1:]:
            logger.error("%s", failure)
        raise type(failures[0])(f"{failures[0]} ({done})") from failures[0]


def _settings(item: NamedRun) -> dict[str, Any]:
    """By dotted key; none of a run of the original scripts, or of one whose run.json cannot be read."""
    try:
        return dict(flat(item.found.run.about()["config"]))
    except NoSuchRunError:
        return {}
    except TspError as error:
        logger.warning("%s: its configuration is not compared: %s", item.name, error)
        return {}


def differences(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Setting -> its value in each run, for those in which the runs differ; None where a run has none recorded.

    A run that recorded no settings at all, as those of the original scripts, differs in none.
    """
    keys = sorted({key for run in runs for key in run["config"]})
    values = {key: [run["config"].get(key) for run in runs] for key in keys if not key.startswith(_NO_DIFFERENCE)}
    known = [index for index, run in enumerate(runs) if run["config"]]
    return {key: found for key, found in values.items() if any(found[index] != found[known[0]] for index in known)}
