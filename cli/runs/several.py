"""Several runs of one command line: each once, with a unique name, even if some of them cannot be read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsp.errors import StoreError

if TYPE_CHECKING:
    from cli.runs.found_run import FoundRun
    from cli.runs.session import Session

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A run among others."""

    name: str
    """Its address where another has the same name."""
    found: FoundRun


def find_several(session: Session, texts: Sequence[str]) -> list[NamedRun]:
    """The training runs that RUN arguments name. One whose store fails is left out with a warning if others are found.

    Raises: NoSuchRunError, ConfigError for any of them; StoreError if no run is left.
    """
    found: dict[str, FoundRun] = {}
    failure: StoreError | None = None
    for text in texts:
        try:
            item = session.find(text, only_training=True)
        except StoreError as error:
            failure = failure or error
            if len(texts) > 1:
                logger.warning("%s is omitted: %s", text, error)
            continue
        if item.run.address() in found:
            logger.warning("%s was given twice; it is shown once", text)
        found[item.run.address()] = item
    if not found:
        assert failure is not None, "a command takes at least one run"
        raise failure
    names = Counter(item.name for item in found.values())
    return [NamedRun(item.name if names[item.name] == 1 else address, item) for address, item in found.items()]
