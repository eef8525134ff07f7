"""Upload a file to S3 and verify it.

The problem: responses get lost, parts get damaged, a file may change while it is sent, and a store that reports success
may not have the right data. So each part is read once; the same bytes go into the SHA-256 of the file and to the
server, whose ETag of the part is compared with their MD5. Where ETags prove nothing, parts are sent with their MD5,
which the server checks on arrival. Parts are sent in parallel, the digest is ready when the last one is read, and only
a file with the expected digest is completed. Then the object in the store is checked (``S3Store._holds``).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from tsp.errors import StoreError, StoreUnreachableError
from tsp.store.s3.client import AnsweredError, Bucket
from tsp.store.transfer import BLOCK_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000
"""S3's limit; the parts of a larger file grow."""
PARALLEL_PARTS = 4


class DamagedPartError(Exception):
    """A part was damaged on arrival, and cannot be replaced: the upload must start again."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent."""

    path: Path
    size_bytes: int
    sha256: str
    etag: str
    """MD5 of the bytes, or of the MD5s of the parts and their number."""
    num_parts: int
    answered: str = ""
    """The ETag in the response to the request that created the object; empty if it was lost."""

    def is_etag(self, etag: str) -> bool:
        """Whether this ETag proves that a server has these bytes. False proves nothing."""
        etag = etag.strip('"').lower()
        if etag == self.etag:
            return True
        # Some servers return the MD5 of the whole object, even for uploads in parts.
        return self.num_parts > 1 and len(etag) == 32 and etag == _md5_of_file(self.path, self.sha256)


def put_file(bucket: Bucket, key: str, path: Path, *, sha256: str, part_bytes: int, address: str) -> Sent:
    """Send a file in one request, or in parts where it is larger than one.

    Args: key, in the bucket; sha256, what the file must have; address, URI for messages.
    Raises: StoreError if it cannot be read or has another digest, DamagedPartError; nothing is stored then.
    """
    try:
        size_bytes = path.stat().st_size
        part_bytes = max(part_bytes, -(-size_bytes // MAX_PARTS))
        if size_bytes > part_bytes:
            return _put_parts(bucket, key, path, sha256, part_bytes, address)
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    _check_digest(path, hashlib.sha256(data).hexdigest(), sha256)
    md5 = md5_of(data)

    return Sent(path, len(data), sha256, md5.hex(), 1, _put_small(bucket, key, data, md5, sha256, address))


def _put_small(bucket: Bucket, key: str, data: bytes, md5: bytes, sha256: str, address: str) -> str:
    """Returns: the ETag that the server answered."""
    headers = {"content-md5": content_md5(md5), "x-amz-meta-sha256": sha256}
    quick = bucket.quick
    answer = None if quick is None else quick.ask("PUT", key, headers=headers, body=data)
    if answer is not None and answer.status == 200:
        bucket.seen = True
        return answer.headers.get("etag", "")

    def put() -> str:
        return bucket.client.put_object(
            Bucket=bucket.name, Key=key, Body=data, ContentMD5=content_md5(md5), Metadata={"sha256": sha256}
        ).get("ETag", "")

    return bucket.call(put, address=address, doing="write", has_body=True)


def _md5_of_file(path: Path, sha256: str) -> str | None:
    """MD5 of a file, as the ETag of servers that put parts together; None if the file is no longer what it was."""
    md5, check = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with contextlib.suppress(OSError), open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            md5.update(block)
            check.update(block)
    return md5.hexdigest() if check.hexdigest() == sha256 else None


def _put_parts(bucket: Bucket, key: str, path: Path, sha256: str, part_bytes: int, address: str) -> Sent:
    upload = _PartUpload(bucket, key, sha256, address)
    pool = ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="upload")
    digest, size_bytes, md5s = hashlib.sha256(), 0, b""
    parts: list[CompletedPartTypeDef] = []
    answered = ""
    waiting: deque[Future[tuple[bytes, CompletedPartTypeDef]]] = deque()
    try:
        for number, body in enumerate(_parts_of(path, part_bytes), start=1):
            waiting.append(pool.submit(upload.put, number, body))
            digest.update(body)
            size_bytes += len(body)
            if len(waiting) > PARALLEL_PARTS:
                md5, part = waiting.popleft().result()
                md5s, parts = md5s + md5, [*parts, part]
        for md5, part in (future.result() for future in waiting):
            md5s, parts = md5s + md5, [*parts, part]
        _check_digest(path, digest.hexdigest(), sha256)
        answered = upload.complete(parts)
    except AnsweredError:
        # Our request to complete it arrived although its answer was lost, or the server forgot the upload. The look
        # afterwards decides which.
        pass
    except BaseException:
        pool.shutdown(cancel_futures=True)
        upload.abort()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return Sent(path, size_bytes, sha256, f"{md5_of(md5s).hex()}-{len(parts)}", len(parts), answered)


class _PartUpload:
    """One upload in parts, begun at the server. Usable from several threads."""

    def __init__(self, bucket: Bucket, key: str, sha256: str, address: str) -> None:
        self._bucket, self._key, self._address = bucket, key, address
        self._client, self._quick = bucket.client, bucket.quick
        self._id = bucket.call(
            lambda: self._client.create_multipart_upload(Bucket=bucket.name, Key=key, Metadata={"sha256": sha256}),
            address=address,
            doing="write",
        )["UploadId"]

    def put(self, number: int, body: memoryview) -> tuple[bytes, CompletedPartTypeDef]:
        """Send one part; returns its MD5, and what completing the upload needs of it.

        Raises: DamagedPartError; StoreError.
        """
        md5, etag = md5_of(body), ""
        if self._quick is not None:
            # Without Content-MD5: the server would compute the MD5 twice, once to compare it and once for the ETag.
            query = {"partNumber": str(number), "uploadId": self._id}
            sent = self._quick.ask("PUT", self._key, query=query, body=body)
            etag = sent.headers.get("etag", "") if sent is not None and sent.status == 200 else ""
            if etag.strip('"').lower() == md5.hex():
                return md5, {"PartNumber": number, "ETag": etag}
            if etag or (sent is not None and 400 <= sent.status < 500):
                # Damaged on its way; or of something else, as where objects are encrypted: so are all other parts then.
                # Or refused, as where objects are locked, which needs Content-MD5.
                self._quick = None
        try:
            return md5, self._put_with_md5(number, body, md5)
        except StoreUnreachableError:
            raise
        except StoreError as error:
            if not etag:
                raise
            # rclone passes parts on as they come, and replaces none.
            raise DamagedPartError from error

    def _put_with_md5(self, number: int, body: memoryview, md5: bytes) -> CompletedPartTypeDef:
        answer = self._bucket.call(
            lambda: self._client.upload_part(
                Bucket=self._bucket.name,
                Key=self._key,
                UploadId=self._id,
                PartNumber=number,
                # As a file it is sent in pieces; otherwise all of it would have to be sent within one timeout.
                Body=io.BytesIO(body),
                ContentMD5=content_md5(md5),
            ),
            address=self._address,
            doing="write",
            expect=("NoSuchUpload",),
            has_body=True,
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def complete(self, parts: list[CompletedPartTypeDef]) -> str:
        """Make the object of its parts; returns the ETag that the server answered."""
        return self._bucket.call(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._bucket.name, Key=self._key, UploadId=self._id, MultipartUpload={"Parts": parts}
            ),
            address=self._address,
            doing="write",
            expect=("NoSuchUpload",),
            has_body=True,
        ).get("ETag", "")

    def abort(self) -> None:
        """Make the server delete the parts; a failure to do so is ignored."""
        with contextlib.suppress(Exception):
            self._client.abort_multipart_upload(Bucket=self._bucket.name, Key=self._key, UploadId=self._id)


def _parts_of(path: Path, part_bytes: int) -> Iterator[memoryview]:
    """The file's parts, each valid until ``PARALLEL_PARTS`` more were requested, since buffers are reused."""
    buffers = [memoryview(bytearray(part_bytes)) for _ in range(PARALLEL_PARTS + 2)]
    with open(path, "rb", buffering=0) as file:
        for buffer in itertools.cycle(buffers):
            filled = _fill(file, buffer)
            if not filled:
                return
            yield buffer[:filled]


def _fill(file: RawIOBase, buffer: memoryview) -> int:
    """Bytes read; fewer than fit only at the file's end, whatever a single read gives."""
    done = 0
    while done < len(buffer) and (num_bytes := file.readinto(buffer[done:])):
        done += num_bytes
    return done


def _check_digest(path: Path, found: str, announced: str) -> None:
    if found != announced:
        raise StoreError(f"{path} has SHA-256 {found}, but {announced} was expected: it changed in the meantime")


def content_md5(md5: bytes) -> str:
    """An MD5 in the form of the Content-MD5 header, the one checksum that every server supports."""
    return base64.b64encode(md5).decode()


def md5_of(data: bytes | memoryview) -> bytes:
    """MD5, as a check of transport only."""
    return hashlib.md5(data, usedforsecurity=False).digest()
