"""Download one object into a file: resumed, verified, whole or not there. One way for every kind of source.

The problem: connections break, objects are replaced while they are read, processes are killed, two of them fetch the
same file at once, and disks and networks flip bits. So bytes gather in a hidden ``.part`` file that is named after the
version of the source; whoever comes next goes on with it, and it takes its name only after its digest was compared.

Invariants: under the name there is never half a file, nor a mixture of two versions; a part file that another process
may be writing is never shared; the source is accused of damage only after a download into a file of this process's own
was wrong, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

from tsp.errors import StoreError, StoreUnreachableError
from tsp.store.atomic import PART_SUFFIX, explain_os_error, publish
from tsp.store.retry import RetryPolicy

BLOCK_BYTES = 1 << 20
CHANGES = 3
"""Times that an object may be replaced while it is being read."""

ProgressCallback = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 while unknown)."""


class InterruptedTransferError(Exception):
    """The source broke off; asking again from where it stopped may help."""


class ChangedSourceError(Exception):
    """The source is not what it was when the download began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Something that can be read from any byte on."""

    address: str
    """Shown in messages; without credentials."""
    size_bytes: int | None
    """None where the server does not say."""
    version: str
    """Differs when the content does, as far as the source can tell; an ETag or a time."""
    chunks: Callable[[int], Iterator[bytes]]
    """The bytes from an offset on. Raises InterruptedTransferError, ChangedSourceError or StoreError."""


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Raises: StoreError if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def matches(digest: str, expected: str) -> bool:
    """Whether a SHA-256 is the expected one, of which only the first digits may be known."""
    return digest.startswith(expected.lower())


def download(
    source: Source,
    path: Path,
    *,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    retry: RetryPolicy | None = None,
) -> str:
    """Bring a source into ``path``; a part that is already there is gone on with.

    The bytes gather in a hidden ``.part`` file beside ``path``, which takes the name only when complete and verified.
    It stays when the download fails, so that the next call resumes it.

    Args: sha256, the expected digest or its first digits.
    Returns: the SHA-256.
    Raises: StoreError (damaged, no space, not writable), StoreUnreachableError when the retries are used up,
        ChangedSourceError when the caller should look at the source again.
    """
    version = hashlib.sha256(f"{source.address}\n{source.size_bytes}\n{source.version}".encode()).hexdigest()[:12]
    part_path = path.with_name(f".{path.name}.{version}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_part(part_path) as part:
            _fill(part, source, progress, retry or RetryPolicy())
            digest = _digest(part)
            if sha256 is not None and not matches(digest, sha256):
                # Bytes that were there before may be of another version; or the network damaged some.
                part.truncate(0)
                _fill(part, source, progress, retry or RetryPolicy())
                digest = _digest(part)
            if sha256 is not None and not matches(digest, sha256):
                os.unlink(part.name)
                raise StoreError(
                    f"{source.address} is damaged: its SHA-256 is {digest}, expected {sha256}"
                    f"{'...' if len(sha256) < 64 else ''}; delete or replace it there"
                )
            part.flush()
            publish(part.name, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    _remove_stale_parts(path)
    return digest


def _remove_stale_parts(path: Path) -> None:
    """Delete what is left of downloads of other versions, unless another process is at it."""
    for stale in path.parent.glob(f".{path.name}.*{PART_SUFFIX}"):
        with contextlib.suppress(OSError), open(stale, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale.unlink(missing_ok=True)


def download_latest(
    find: Callable[[], Source],
    path: Path,
    *,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    retry: RetryPolicy | None = None,
) -> None:
    """``download`` what ``find`` finds, looked at again if it is replaced meanwhile.

    Raises: as ``find`` and ``download``, but StoreError if it is replaced again and again.
    """
    for _ in range(CHANGES):
        source = find()
        with contextlib.suppress(ChangedSourceError):
            download(source, path, sha256=sha256, progress=progress, retry=retry)
            return
    raise StoreError(f"{source.address} is replaced faster than it can be read; try again later")


def _open_part(path: Path) -> BufferedRandom:
    """The part file, locked; one of our own if another process is filling it."""
    file = open(path, "a+b")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other process may have renamed the file between our open and our lock.
        if os.stat(path).st_ino == os.fstat(file.fileno()).st_ino:
            return file
    except OSError:
        pass
    file.close()
    file = open(path.with_name(f"{path.name.removesuffix(PART_SUFFIX)}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}"), "a+b")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _fill(part: BufferedRandom, source: Source, progress: ProgressCallback | None, retry: RetryPolicy) -> None:
    """Append what is missing."""
    done = part.seek(0, os.SEEK_END)
    if source.size_bytes is not None and done > source.size_bytes:
        part.truncate(0)
        done = 0
    for chunk in persistent_chunks(source, done, retry=retry):
        part.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, source.size_bytes or 0)


def persistent_chunks(source: Source, offset_bytes: int, *, retry: RetryPolicy) -> Iterator[bytes]:
    """A source's bytes from an offset to its end, asked for again wherever it breaks off.

    Raises: StoreUnreachableError when the retries in a row gave nothing, ChangedSourceError if it got longer.
    """
    done, total = offset_bytes, source.size_bytes
    delays = retry.delays_sec()
    while total is None or done < total:
        before = done
        cause: Exception | None = None
        try:
            for chunk in source.chunks(done):
                done += len(chunk)
                yield chunk
            if total is None:
                return
        except InterruptedTransferError as error:
            cause = error
        if done > before:
            # Whoever gives something is not unreachable.
            delays = retry.delays_sec()
        if total is None or done < total:
            _pause(delays, source.address, cause)
    if done != total:
        raise ChangedSourceError


def _pause(delays: Iterator[float], address: str, cause: Exception | None) -> None:
    delay_sec = next(delays, None)
    if delay_sec is None:
        raise StoreUnreachableError(
            f"{address} kept breaking off; run the same command again to resume, or check the network"
        ) from cause
    time.sleep(delay_sec)


def _digest(part: BufferedRandom) -> str:
    part.flush()
    part.seek(0)
    with contextlib.suppress(OSError):
        os.posix_fadvise(part.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return hashlib.file_digest(part, "sha256").hexdigest()
