"""Files by address, a path or a URI: a local path to read one, a local path to write one, the files of a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, DataError
from tsp.store.atomic import new_file, remove_abandoned
from tsp.store.base import Store
from tsp.store.fetch import fetch_object
from tsp.store.open import open_store, path_of_file_uri, with_uri
from tsp.store.scratch import cache_folder, scratch


def open_folder(address: str, settings: StoreConfig | None) -> Store:
    """The files below a path or URI, as a store.

    Args: settings, how to speak to the S3 server; its URI is not used.
    Raises: ConfigError for another kind of URI.
    """
    return open_store(with_uri(settings, address))


def folder_and_name(address: str) -> tuple[str, str]:
    """The folder in which a path or URI lies, and what it is called there: nothing if it ends with a slash."""
    folder, slash, name = address.rpartition("/")
    return folder or slash or ".", name


def output_folder_and_name(out: str, *, like: str) -> tuple[str, str]:
    """The same of an output.

    Args: like, a name to propose where it has none.
    Raises: ConfigError if it names no file or folder.
    """
    folder, name = folder_and_name(out)
    if not name or folder.endswith(":/") or folder in ("s3:", "file:"):
        raise ConfigError(f"--out {out} has no file name: give for instance {out.rstrip('/')}/{like}")
    return folder, name


def list_files(folder: Store) -> dict[str, int]:
    """Size in bytes of every file by its name, sorted; hidden ones are left out.

    Raises: DataError if it is a folder of this machine that does not exist.
    """
    if folder.is_local and not Path(folder.uri or "/").is_dir():
        is_file = Path(folder.uri).exists()
        raise DataError(
            f"{folder.uri} is a file, not a folder" if is_file else f"the folder {folder.uri} does not exist"
        )
    return {entry.key: entry.size_bytes for entry in folder.list() if not _is_hidden(entry.key)}


def local_path(address: str) -> Path:
    """The path of an address on this machine.

    Raises: ConfigError for a URI that is not on this machine.
    """
    if address.startswith("file://"):
        return path_of_file_uri(address)
    if "://" in address:
        raise ConfigError(f"{address!r} is not supported: use s3://bucket/prefix, file:///folder or a folder")
    return Path(address).expanduser()


def refuse_overwriting(read: Iterable[str | None], written: Iterable[str | None]) -> None:
    """Raises: ConfigError if an output would replace its input."""
    inputs = {_identity(address): address for address in read if address is not None}
    for address in written:
        if address is not None and (known := inputs.get(_identity(address))):
            raise ConfigError(f"{address} would overwrite {known}, which is its input: choose another output")


def _identity(address: str) -> str:
    return address if "://" in address else os.path.realpath(address)


@contextmanager
def reading(address: str, settings: StoreConfig | None) -> Iterator[Path]:
    """A local path of a table, label map or annotation file; a remote file is fetched once per machine.

    Raises: DataError if there is none; StoreError.
    """
    if "://" not in address:
        yield local_path(address)
        return
    try:
        path = fetch_object(address, cache_folder("tables"), settings=settings)
    except ConfigError as error:
        raise DataError(str(error)) from error
    yield path


@contextmanager
def reading_folder(address: str, settings: StoreConfig | None, *, suffix: str) -> Iterator[Path]:
    """A local folder with the files below an address that end in ``suffix``, in any case."""
    if not address.startswith("s3://"):
        yield local_path(address)
        return
    source = open_folder(address, settings)
    with scratch() as folder:
        for name in filter(lambda name: name.lower().endswith(suffix), list_files(source)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with source.reading(name) as path:
                shutil.copy(path, folder / name)
        yield folder


@contextmanager
def writing(address: str, settings: StoreConfig | None) -> Iterator[Path]:
    """A local path to write to; if the block succeeds, the file is at its address, complete.

    Raises: ConfigError if the address names no file; StoreError.
    """
    if not address.startswith("s3://"):
        remove_abandoned(local_path(address).parent)
        with new_file(local_path(address)) as path:
            yield path
        return
    uri, _, name = address.rpartition("/")
    if not name or uri == "s3:/":
        raise ConfigError(f"{address} has no file name: write s3://bucket/key")
    with open_folder(uri, settings).writing(name) as path:
        yield path


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
