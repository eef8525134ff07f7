"""Folders of this machine: permanent caches, and scratch folders, which the next process removes if their own was
killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsp.errors import StoreError
from tsp.store.atomic import FULL, explain_os_error
from tsp.store.locks import lock_file
from tsp.store.owner import forget_owner, is_abandoned, new_owner

LOCK = ".lock"


def cache_folder(kind: str) -> Path:
    """The folder of this machine for a kind of downloads: below $XDG_CACHE_HOME or ~/.cache, and never in a shared
    /tmp. A user without a home folder (in a pod) gets a separate temporary folder.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        home = Path(os.environ.get("HOME") or "/nonexistent")
        base = str(home / ".cache") if os.access(home, os.W_OK) else f"{tempfile.gettempdir()}/cache-{os.getuid()}"
    return Path(base) / "tspctl" / kind


@contextmanager
def scratch(base: Path | None = None) -> Iterator[Path]:
    """A folder of one's own, removed afterwards.

    Its name contains its owner, so that the next caller removes only folders that killed processes left. Args: base,
    its parent; None for the cache of downloads. Raises: StoreError if it cannot be created, or its disk is full.
    """
    base = cache_folder("scratch") if base is None else base
    with contextlib.ExitStack() as stack:
        try:
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            # No process may sweep between the creation of a folder and its lock.
            with open(base / LOCK, "wb") as all_of_them:
                lock_file(all_of_them)
                _sweep(base)
                owner = new_owner()
                stack.callback(forget_owner, owner)
                folder = base / owner
                folder.mkdir()
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                lock_file(stack.enter_context(open(folder / LOCK, "wb")))
        except OSError as error:
            raise explain_os_error(error, base) from error
        try:
            yield folder
        except OSError as error:
            # A copy names its source first, and a write to an open file none.
            named = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str)] or [folder]
            ours = next((path for path in named if path.is_relative_to(folder)), None)
            if error.errno in FULL and ours is not None:
                raise explain_os_error(error, ours) from error
            raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A scratch folder among temporary files ($TMPDIR, or /tmp) for files of any size. Raises: StoreError if it cannot
    be created, or if another user made one of that name, since /tmp is shared.
    """
    base = Path(tempfile.gettempdir()) / f"tspctl-{os.getuid()}"
    if base.exists() and base.stat().st_uid != os.getuid():
        raise StoreError(f"{base} belongs to another user: remove it, or set TMPDIR to a folder of your own")
    with scratch(base) as folder:
        yield folder


def _sweep(base: Path) -> None:
    for left in base.glob(f"*/{LOCK}"):
        if is_abandoned(left):
            shutil.rmtree(left.parent, ignore_errors=True)
