"""Download one object into a file: resumed, verified, complete or absent. All kinds of sources use this code.

The problem: connections break, objects are replaced while they are read, processes are killed, two of them fetch the
same file at once, and disks and networks flip bits. So bytes are written to a hidden ``.part`` file that is named after
the version of the source; the next process continues with it, and it is renamed only after its digest was compared.

Invariants: the target is never a partial file or a mixture of two versions; a part file that another process may be
writing is never shared; the source is reported as damaged only after a download into a file of this process alone was
wrong, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tsp.errors import StoreError, StoreUnreachableError
from tsp.store.atomic import explain_os_error, file_behind
from tsp.store.part import Part
from tsp.store.retry import RetryPolicy

BLOCK_BYTES = 1 << 20
RANGE_BYTES = 8 << 20
PARALLEL_RANGES = 4
PARALLEL_FROM_BYTES = 2 * RANGE_BYTES
"""Objects above this size are read as several ranges at once."""
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
    """None if the server does not provide it."""
    version: str
    """Differs when the content does, as far as the source can tell; an ETag or a time."""
    chunks: Callable[[int], Iterator[bytes]]
    """The bytes from an offset on. Raises InterruptedTransferError, ChangedSourceError or StoreError."""
    range: Callable[[int, memoryview], None] | None = None
    """Fills a buffer with the bytes from an offset on, tried again as needed; None where the source gives no ranges.
    Raises ChangedSourceError or StoreError."""


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
    """Whether a SHA-256 matches the expected one, of which only the first digits may be known."""
    return digest.startswith(expected.lower())


def download(
    source: Source,
    path: Path,
    *,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    retry: RetryPolicy | None = None,
    sync: bool = True,
) -> str:
    """Download a source into ``path``, and resume a part that a dead process left. The bytes are written to a hidden
    ``.part`` file next to ``path``, which is renamed only when complete and verified. It is kept if the download fails,
    so that the next call resumes it.

    Args: sha256, the expected digest or its first digits; sync, bring it to the disk before it takes the name; False
        for what can be had again after a power cut.
    Returns: the SHA-256.
    Raises: StoreError (damaged, no space, not writable), StoreUnreachableError when the retries are used up,
        ChangedSourceError when the caller should look at the source again.
    """
    version = hashlib.sha256(f"{source.address}\n{source.size_bytes}\n{source.version}".encode()).hexdigest()[:12]
    digest, wrong = "", False
    path = file_behind(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # What an earlier process left may be of another version, and the network may damage what is new: only a
        # second download, from its first byte on and into a file that nobody else can have touched, proves anything.
        for may_resume in (True, False):
            with Part.open(path, version, may_resume=may_resume, sync=sync) as part:
                digest = _fill(part, source, progress, retry or RetryPolicy())
                wrong = sha256 is not None and not matches(digest, sha256)
                if not wrong and part.publish():
                    return digest
                part.discard()
    except OSError as error:
        raise explain_os_error(error, path) from error
    if not wrong:
        raise StoreError(f"cannot write {path}: another program changes or removes the hidden .part files next to it")
    raise StoreError(
        f"{source.address} is damaged: its SHA-256 is {digest}, expected {sha256}"
        f"{'...' if len(sha256 or '') < 64 else ''}; delete or replace it there"
    )


def download_latest(
    find: Callable[[], Source],
    path: Path,
    *,
    sha256: str | None = None,
    progress: ProgressCallback | None = None,
    retry: RetryPolicy | None = None,
    sync: bool = True,
) -> None:
    """``download`` the source that ``find`` returns, and call it again if the source is replaced meanwhile.

    Raises: as ``find`` and ``download``, but StoreError if it is replaced again and again.
    """
    for _ in range(CHANGES):
        source = find()
        with contextlib.suppress(ChangedSourceError):
            download(source, path, sha256=sha256, progress=progress, retry=retry, sync=sync)
            return
    raise StoreError(f"{source.address} is replaced more often than it can be read; try again later")


def _fill(part: Part, source: Source, progress: ProgressCallback | None, retry: RetryPolicy) -> str:
    """Append the missing bytes. Returns: the SHA-256 of the file, computed during the download."""
    digest, total = hashlib.sha256(), source.size_bytes
    if total is not None and part.size_bytes > total:
        part.restart()
    for block in part.blocks():
        digest.update(block)
    done = part.size_bytes
    if source.range is not None and total is not None and total - done > PARALLEL_FROM_BYTES:
        chunks: Iterator[bytes | memoryview] = _parallel_chunks(source.range, done, total)
    else:
        chunks = persistent_chunks(source, done, retry=retry)
    for chunk in chunks:
        part.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, total or 0)
    return digest.hexdigest()


def _parallel_chunks(
    read: Callable[[int, memoryview], None], offset_bytes: int, size_bytes: int
) -> Iterator[memoryview]:
    """The bytes from an offset on, from several parallel ranges, in order. Each chunk is valid until the next one is
    requested: a few buffers are reused, since allocating a new one takes about as long as filling it.
    """
    starts = iter(range(offset_bytes, size_bytes, RANGE_BYTES))
    pool = ThreadPoolExecutor(PARALLEL_RANGES, thread_name_prefix="download")
    waiting: deque[Future[memoryview]] = deque()

    def fill(start: int, buffer: memoryview) -> memoryview:
        data = buffer[: size_bytes - start]
        read(start, data)
        return data

    def ask(buffer: memoryview) -> None:
        start = next(starts, None)
        if start is not None:
            waiting.append(pool.submit(fill, start, buffer))

    try:
        for _ in range(PARALLEL_RANGES + 1):
            ask(memoryview(bytearray(RANGE_BYTES)))
        while waiting:
            data = waiting.popleft().result()
            yield data
            ask(data)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def persistent_chunks(source: Source, offset_bytes: int, *, retry: RetryPolicy) -> Iterator[bytes]:
    """A source's bytes from an offset to its end, requested again after interruptions. Raises: StoreUnreachableError if
    the retries made no progress, ChangedSourceError if the source got longer.
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
            # A server that sends data is not unreachable.
            delays = retry.delays_sec()
        if total is None or done < total:
            _pause(delays, source.address, cause)
    if done != total:
        raise ChangedSourceError


def _pause(delays: Iterator[float], address: str, cause: Exception | None) -> None:
    delay_sec = next(delays, None)
    if delay_sec is None:
        raise StoreUnreachableError(
            f"the connection to {address} kept breaking; run the same command again to resume, or check the network"
        ) from cause
    time.sleep(delay_sec)
