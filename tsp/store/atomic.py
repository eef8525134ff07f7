"""Atomic writing of local files: used for every file that another process may read.

A reader must never see a partial file, a crash must not leave one under the target's name, and two writers must not
mix. So the bytes are written to a separate hidden file next to the target and synced to the disk, and only then the
file is renamed.

Invariants: the target is always the complete old or new file; a hidden file that ends in ``.tmp`` is not a result and
may be deleted once its writer is gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsp.errors import StoreError
from tsp.store.owner import forget_owner, is_abandoned, names_owner, new_owner

TEMP_SUFFIX = ".tmp"
PART_SUFFIX = ".part"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of writing, whatever file they name."""


@contextmanager
def new_file(path: Path, *, only_if_absent: bool = False, sync: bool = True) -> Iterator[Path]:
    """A hidden name next to ``path`` to write to; it becomes ``path`` if the block succeeds, else it is removed.

    Args: sync, sync it to the disk first; False for files that can be fetched again after a power failure.
    Raises: FileExistsError with ``only_if_absent`` if the name is taken; StoreError if the disk is full or refuses.
    """
    if not only_if_absent:
        path = file_behind(path)
    owner = new_owner()
    temp = path.with_name(f".{end_of_name(path)}.{owner}{TEMP_SUFFIX}")
    is_left = True
    try:
        if not os.path.isdir(path.parent):
            with _explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temp
        except OSError as error:
            # FFmpeg's errors name no file.
            is_ours = error.filename is None and not os.access(path.parent, os.W_OK | os.X_OK)
            if error.errno in FULL or error.filename == str(temp) or is_ours:
                raise explain_os_error(error, path) from error
            raise
        with _explained(path, let_through=only_if_absent):
            if sync:
                _sync(temp)
            if only_if_absent:
                _link_new(temp, path)
            else:
                os.replace(temp, path)
                is_left = False
            if sync:
                _sync_folder(path.parent)
    finally:
        forget_owner(owner)
        if is_left:
            with contextlib.suppress(OSError):
                temp.unlink()


def file_behind(path: Path) -> Path:
    """The file that is to be replaced: where a link leads, since renaming would replace the link itself.

    Raises: StoreError for a pipe or device, which renaming would replace (``/dev/null``), and a link to nowhere.
    """
    if path.is_symlink():
        link, path = path, Path(os.path.realpath(path))
        if not path.parent.is_dir():
            raise StoreError(
                f"cannot write {link}: it is a link to {path}, and there is no folder {path.parent}: create it, or "
                "remove the link"
            )
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StoreError(f"cannot write {path}: it is a pipe or device; give the name of a file")
    return path


def end_of_name(path: Path) -> str:
    """What an unfinished file's name has of its target's: it leaves room for the rest within 255 bytes."""
    return os.fsencode(path.name)[-100:].decode(errors="ignore")


def remove_abandoned(folder: Path, *, below: bool = False) -> None:
    """Remove the unfinished files that killed processes left in a folder. Args: below, in those in it, too."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if name.endswith(TEMP_SUFFIX) and is_unfinished(name) and names_owner(path) and is_abandoned(path):
                with contextlib.suppress(OSError):
                    path.unlink()
        if not below:
            return


def write_atomically(path: Path, data: bytes | str, *, only_if_absent: bool = False) -> None:
    """Write a complete file.

    Raises: as ``new_file``.
    """
    with new_file(path, only_if_absent=only_if_absent) as temp, _explained(path):
        temp.write_bytes(data.encode() if isinstance(data, str) else data)


def is_unfinished(name: str) -> bool:
    """Whether a file of that name is being written, or was left unfinished."""
    return name.startswith(".") and name.endswith((TEMP_SUFFIX, PART_SUFFIX))


def explain_os_error(error: OSError, path: Path) -> StoreError:
    """The error for a problem with a local file or folder, and what to do about it."""
    if is_unfinished(path.name):
        path = path.with_name(path.name[1:].rsplit(".", 2)[0])
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"no space left for {path}: free some space, or choose another folder")
    if error.errno == errno.EFBIG:
        return StoreError(
            f"{path} would be larger than its file system or the limit of this shell allows: choose another folder, or "
            "see 'ulimit -f'"
        )
    nearest = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
    if error.errno == errno.EROFS:
        return StoreError(f"cannot write {path}: {nearest} is on a read-only file system; choose another folder")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StoreError(
            f"permission denied for {path}: this user may not write to or read {nearest}; change its owner or mode "
            f"(in a pod: fsGroup), or choose another folder"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        what = "is not a folder" if nearest.is_file() else "is where the path ends"
        if nearest.is_symlink() and not nearest.exists():
            what = f"is a link to {os.readlink(nearest)}, which does not exist"
        return StoreError(f"cannot use {path}: {nearest} {what}; create the folder, or choose another one")
    if error.errno == errno.EISDIR:
        return StoreError(f"cannot use {path}: it is a folder; give the name of a file")
    return StoreError(f"cannot use {path}: {error.strerror or error}")


@contextmanager
def _explained(path: Path, *, let_through: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if let_through and isinstance(error, FileExistsError):
            raise
        raise explain_os_error(error, path) from error


def _link_new(temp: Path, path: Path) -> None:
    """Give a file its name, failing with FileExistsError if the name is taken."""
    try:
        os.link(temp, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (some network and FUSE file systems): take the name first, then replace it.
        path.touch(exist_ok=False)
        os.replace(temp, path)


def _sync(path: Path | str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    # Some network and FUSE file systems cannot sync a folder, and a folder may be writable without being readable.
    with contextlib.suppress(OSError):
        _sync(folder)
