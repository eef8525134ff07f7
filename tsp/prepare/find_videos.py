"""Finds the videos under a path or URI, and reports the files that are left out, with the reason."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from tsp.config.store import StoreConfig
from tsp.data.copy_name import SUFFIX
from tsp.errors import DataError
from tsp.store.base import Store
from tsp.store.files import folder_and_name, list_files, open_folder
from tsp.wording import counted, first_few

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    )
)
_NO_UNICODE = "the name is not UTF-8, so no table can hold it: rename it"


def find_videos(address: str, settings: StoreConfig | None = None) -> tuple[Store, dict[str, int]]:
    """The store of a path or URI, and the size in bytes of each of its videos by name.

    A file named directly is accepted whatever its extension; its content decides whether it is a video. In a folder the
    extension decides, links are followed, each folder is entered once, and files left out are reported with reasons.
    Raises: DataError if there is none.
    """
    folder, name = folder_and_name(address)
    if name and not Path(address).is_dir():
        around = open_folder(folder, settings)
        if around.is_local:
            _refuse_what_is_no_file(Path(address))
        if not _is_unicode(name):
            raise DataError(f"{address!r}: {_NO_UNICODE}")
        if around.exists(name):
            return around, {name: around.stat(name).size_bytes}
    source = open_folder(address, settings)
    left_out: dict[str, str] = {}
    sizes_bytes = _walk(Path(source.uri or "/"), left_out) if source.is_local else list_files(source)
    found = {}
    for file in sorted(sizes_bytes):
        if reason := _reason_against(file):
            left_out[file] = reason
        else:
            found[file] = sizes_bytes[file]
    _say_what_is_left_out(address, left_out)
    if not found:
        raise DataError(f"{address} contains no video files (*{', *'.join(sorted(VIDEO_SUFFIXES))})")
    return source, found


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is a pipe or device, not a file")
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path} is a broken link (to {os.readlink(path)})")
    except OSError as error:  # a link to itself
        raise DataError(f"{path} cannot be used: {error.strerror}") from error


def _is_unicode(name: str) -> bool:
    """Whether a table can hold the name: bytes that are not UTF-8 arrive as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(root: Path, left_out: dict[str, str]) -> dict[str, int]:
    """Sizes of the files below a local folder; files that cannot be read are added to left_out."""
    if not root.is_dir():
        raise DataError(f"{root} does not exist")
    sizes_bytes: dict[str, int] = {}
    entered: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(root, followlinks=True, onerror=lambda error: _note(left_out, root, error)):
        about = os.stat(parent)
        if (about.st_dev, about.st_ino) in entered:
            left_out[os.path.relpath(parent, root)] = "a link to a folder that is also read directly"
            folders.clear()
            continue
        entered.add((about.st_dev, about.st_ino))
        folders.sort()
        for file in files:
            path = Path(parent, file)
            name = path.relative_to(root).as_posix()
            try:
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    sizes_bytes[name] = found.st_size
                else:
                    left_out[name] = "a pipe, socket or device"
            except OSError as error:
                left_out[name] = "a broken link" if path.is_symlink() else error.strerror or str(error)
    return sizes_bytes


def _note(left_out: dict[str, str], root: Path, error: OSError) -> None:
    left_out[os.path.relpath(str(error.filename), root)] = error.strerror or str(error)


def _reason_against(name: str) -> str:
    """Why a file does not count as a video; empty if it does."""
    if any(part.startswith(".") for part in name.split("/")):
        return "hidden"
    if not _is_unicode(name):
        return _NO_UNICODE
    if name.endswith(SUFFIX):
        return "a training copy"
    suffix = Path(name).suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        return f"not a known video extension: {suffix or 'none'}; give the file itself to read it"
    return ""


def _say_what_is_left_out(address: str, left_out: Mapping[str, str]) -> None:
    names_of: dict[str, list[str]] = {}
    for name in sorted(left_out):
        names_of.setdefault(left_out[name], []).append(name)
    for reason, names in _by_weight(names_of):
        shown = first_few([_printable(name) for name in names])
        what = counted(len(names), "file")
        level = logging.INFO if reason in ("hidden", "a training copy") else logging.WARNING
        logger.log(level, "%s: %s left out (%s): %s", address, what, reason, shown)


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)[1:-1]


def _by_weight(names_of: Mapping[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    yield from sorted(names_of.items(), key=lambda item: -len(item[1]))
