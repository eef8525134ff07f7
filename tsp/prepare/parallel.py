"""One function over many files, in processes, with one result per file even if a decoder crashes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import TypeVar

from tsp.config.cpus import usable_cpus
from tsp.data.child_processes import end_with_parent, forkserver

logger = logging.getLogger(__name__)

LOG_EVERY_SEC = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    crashed: Callable[[Item], Result] | None = None,
    noun: str = "videos",
) -> Iterator[tuple[Item, Result]]:
    """Pairs of item and ``function(item)`` in order of completion; progress is logged.

    Args: function, importable by name; workers, processes (default: usable CPUs), 1 stays in this one;
        crashed, the result of an item whose process died (a bad file may crash a decoder, and its process with it).
    Raises: what ``function`` raises; BrokenProcessPool if a process died and ``crashed`` is not given.
    """
    workers = min(workers or usable_cpus(), max(1, len(items)))
    results = _here(function, items) if workers == 1 else _in_processes(function, items, workers, crashed)
    begun = told = time.monotonic()
    # An error here, as of Ctrl-C, would keep the processes at work for as long as anybody looks at its traceback.
    with closing(results):
        for done, pair in enumerate(results, start=1):
            now = time.monotonic()
            if done == len(items):
                logger.info("%d of %d %s", done, len(items), noun)
            elif now - told >= LOG_EVERY_SEC:
                told = now
                minutes = (now - begun) / done * (len(items) - done) / 60
                logger.info("%d of %d %s, about %.0f min left", done, len(items), noun, minutes)
            yield pair


def _here(function: Callable[[Item], Result], items: Sequence[Item]) -> Generator[tuple[Item, Result], None, None]:
    for item in items:
        yield item, function(item)


def _in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    crashed: Callable[[Item], Result] | None,
) -> Generator[tuple[Item, Result], None, None]:
    left = dict(enumerate(items))
    try:
        for index, result in _pool(function, left, workers):
            yield left.pop(index), result
    except BrokenProcessPool:
        if crashed is None:
            raise
        # A dead process breaks the whole pool without naming the item that killed it: try the remaining ones one by
        # one.
        for index, item in left.items():
            try:
                yield item, next(_pool(function, {index: item}, 1))[1]
            except BrokenProcessPool:
                yield item, crashed(item)


def _pool(function: Callable[[Item], Result], items: dict[int, Item], workers: int) -> Iterator[tuple[int, Result]]:
    # Not fork: a forked child of a process that has threads (a decoder's, torch's) may hang. Not spawn: every child
    # would import everything again, which the fork server does once.
    context = forkserver("__main__", _module_of(function))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        futures = {pool.submit(function, item): index for index, item in items.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _module_of(function: Callable[..., object]) -> str:
    """Where a function, or the one that a partial calls, is defined."""
    return getattr(function, "func", function).__module__
