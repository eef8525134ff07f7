"""Records the images of a run's pods while its pods exist, for later."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from tsp.errors import TspError
from tsp.run.pod_images import record_images, recorded_images

if TYPE_CHECKING:
    from cli.backends.run_status import RunStatus
    from tsp.run.stored_run import StoredRun

logger = logging.getLogger(__name__)


def images_of_pods(status: RunStatus | None) -> list[str]:
    """Each image once, as the pods that are there now resolved it."""
    return list(dict.fromkeys(rank.image for rank in (status.ranks if status else ()) if rank.image))


def keep_images(run: StoredRun, status: RunStatus | None) -> None:
    """Write down what the pods show. That it cannot be written hinders no command."""
    images = images_of_pods(status)
    if not images or (status is not None and status.kind != "train"):
        return
    try:
        record_images(run, images)
    except TspError as error:
        logger.debug("images are not recorded: %s", error)


def images_of(run: StoredRun, status: RunStatus | None) -> list[str]:
    """Of the pods that were seen, and of those that are there now."""
    images: list[str] = []
    with suppress(TspError):
        images += recorded_images(run)
    return list(dict.fromkeys([*images, *images_of_pods(status)]))
