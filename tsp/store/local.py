"""A store in a local folder. Objects appear by rename, after they are on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from tsp.errors import MissingKeyError, StoreError
from tsp.store.atomic import explain_os_error, is_unfinished, new_file, remove_abandoned, write_atomically
from tsp.store.base import Entry, KeyExistsError, Store, check_key, check_prefix
from tsp.store.claims import replace_claimed
from tsp.store.retry import RetryPolicy
from tsp.store.transfer import BLOCK_BYTES, Source, sha256_of


class LocalStore(Store):
    """Keys are paths below a folder, which is made when first written to."""

    is_local: ClassVar[bool] = True

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.uri = str(self.root).rstrip("/")
        self.retry = RetryPolicy(attempts=1)

    @property
    def real_uri(self) -> str:
        return os.path.realpath(self.root).rstrip("/") + "/"

    @contextmanager
    def reading(self, key: str, *, head_bytes: int | None = None) -> Iterator[Path]:
        """Not checked as keys are: tables may name files by absolute paths."""
        yield self.root / key

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        with new_file(self.local_path(key)) as path:
            yield path

    def local_path(self, key: str) -> Path:
        """The file of a key."""
        check_key(key)
        return self.root / key

    def read(self, key: str, *, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
        with self._reading(key) as path, open(path, "rb") as file:
            file.seek(offset_bytes)
            return file.read(size_bytes)

    def write(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        try:
            write_atomically(self.local_path(key), data, only_if_absent=only_if_absent)
        except FileExistsError as error:
            raise KeyExistsError(f"{self.address(key)} exists already") from error

    def replace(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        return replace_claimed(self, key, data, expected=expected)

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        """The copy is read back before it is given its name."""
        remove_abandoned(self.local_path(key).parent)
        with new_file(self.local_path(key)) as temp:
            try:
                source = open(path, "rb")  # noqa: SIM115, kept open
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error.strerror}") from error
            with source, open(temp, "wb") as target:
                shutil.copyfileobj(source, target, BLOCK_BYTES)
            digest = sha256_of(temp)
            if digest != sha256:
                raise StoreError(
                    f"{path} was copied to {self.address(key)} with SHA-256 {digest}, but {sha256} was expected: "
                    "it changed in the meantime, or the disk is faulty"
                )

    def list(self, prefix: str = "") -> Iterator[Entry]:
        check_prefix(prefix)
        above, _, start = prefix.rpartition("/")
        folder = self.root / above
        entries = []
        for parent, folders, names in os.walk(folder):
            if parent == str(folder):  # others hold no such key, and may hold any number of files
                folders[:] = [name for name in folders if name.startswith(start)]
            for name in names:
                key = os.path.relpath(os.path.join(parent, name), self.root)
                if key.startswith(prefix) and not is_unfinished(name):
                    # A file may go while we look.
                    with contextlib.suppress(MissingKeyError):
                        entries.append(self.stat(key))
        return iter(sorted(entries, key=lambda entry: entry.key))

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        folder = self.root / prefix
        try:
            return iter(sorted(child.name for child in folder.iterdir() if child.is_dir()))
        except (FileNotFoundError, NotADirectoryError) as error:
            # A store that does not exist yet is empty; a link to nothing is rather a disk that is not mounted.
            if prefix or not os.path.lexists(folder):
                return iter(())
            raise explain_os_error(error, folder) from error
        except OSError as error:
            raise explain_os_error(error, folder) from error

    def stat(self, key: str) -> Entry:
        with self._reading(key) as path:
            found = path.stat()
            if not path.is_file():
                raise IsADirectoryError
            return Entry(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def delete(self, key: str) -> None:
        path = self.local_path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise explain_os_error(error, path) from error

    def delete_all(self, prefix: str) -> None:
        """Folders that are empty afterwards go too, with what unfinished writes left in them."""
        super().delete_all(prefix)
        base = self.root / prefix
        if not prefix.endswith("/") or not base.is_dir():
            return
        try:
            for parent, _, names in os.walk(base, topdown=False):
                for name in filter(is_unfinished, names):
                    os.unlink(os.path.join(parent, name))
                os.rmdir(parent)
        except OSError as error:
            raise explain_os_error(error, base) from error

    def now(self) -> datetime:
        key = f".tspctl-clock-{uuid.uuid4().hex[:8]}"
        try:
            self.write(key, b"")
            return self.stat(key).modified
        except StoreError:
            # The folder's own clock can be read only by writing a file.
            return datetime.now(UTC)
        finally:
            with contextlib.suppress(StoreError):
                self.delete(key)

    def check_writable(self) -> None:
        key = f".tspctl-write-check-{uuid.uuid4().hex[:8]}"
        self.write(key, b"tspctl")
        self.delete(key)

    def _source(self, key: str, entry: Entry | None = None) -> Source:
        entry = entry or self.stat(key)

        def chunks(offset_bytes: int) -> Iterator[bytes]:
            with self._reading(key) as path, open(path, "rb") as file:
                file.seek(offset_bytes)
                while chunk := file.read(BLOCK_BYTES):
                    yield chunk

        return Source(
            address=self.address(key), size_bytes=entry.size_bytes, version=str(entry.modified), chunks=chunks
        )

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self.local_path(key)
        try:
            yield path
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingKeyError(f"{self.address(key)} does not exist") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise MissingKeyError(f"{self.address(key)} cannot exist: the name is too long") from error
            raise explain_os_error(error, path) from error
