"""Upload a file to S3 and make sure that it arrived: digests of the parts, lost answers, the look afterwards."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tsp.errors import StoreError
from tsp.store.s3.client import AnsweredError, Bucket
from tsp.store.transfer import BLOCK_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000
"""S3's limit; the parts of a larger file grow."""
PARALLEL_PARTS = 4


@dataclass(frozen=True, slots=True)
class Digests:
    """Of a file that is to be uploaded, from one reading of it."""

    size_bytes: int
    part_bytes: int
    sha256: str
    md5: bytes
    part_md5s: tuple[bytes, ...]

    def etags(self) -> set[str]:
        """ETags by which a server says that it holds these bytes: of the whole, or of the parts."""
        parts = md5_of(b"".join(self.part_md5s)).hex()
        return {self.md5.hex(), f"{parts}-{len(self.part_md5s)}"}


def read_digests(path: Path, part_bytes: int) -> Digests:
    """SHA-256 and MD5 of a file and MD5 of each of its parts.

    Raises: StoreError if it cannot be read.
    """
    sha256, whole = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    part_md5s: list[bytes] = []
    try:
        size_bytes = path.stat().st_size
        part_bytes = max(part_bytes, -(-size_bytes // MAX_PARTS))
        with open(path, "rb") as file:
            while True:
                part, left = hashlib.md5(usedforsecurity=False), part_bytes
                while left and (block := file.read(min(BLOCK_BYTES, left))):
                    left -= len(block)
                    for digest in (sha256, whole, part):
                        digest.update(block)
                if left == part_bytes and part_md5s:
                    break
                part_md5s.append(part.digest())
                if left:
                    break
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    return Digests(size_bytes, part_bytes, sha256.hexdigest(), whole.digest(), tuple(part_md5s))


def put_file(bucket: Bucket, key: str, path: Path, digests: Digests, *, address: str) -> None:
    """Send a file in one request, or in parts where it has several. Every request carries its MD5.

    Args: key, in the bucket; address, URI for messages.
    """
    if len(digests.part_md5s) > 1:
        _put_parts(bucket, key, path, digests, address)
        return
    with open(path, "rb") as file:

        def put() -> None:
            file.seek(0)
            bucket.client.put_object(
                Bucket=bucket.name,
                Key=key,
                Body=file,
                ContentMD5=content_md5(digests.md5),
                Metadata={"sha256": digests.sha256},
            )

        bucket.call(put, address=address, doing="write")


def _put_parts(bucket: Bucket, key: str, path: Path, digests: Digests, address: str) -> None:
    client = bucket.client
    upload_id = bucket.call(
        lambda: client.create_multipart_upload(Bucket=bucket.name, Key=key, Metadata={"sha256": digests.sha256}),
        address=address,
        doing="write",
    )["UploadId"]

    def put(index: int) -> CompletedPartTypeDef:
        with open(path, "rb") as file:
            file.seek(index * digests.part_bytes)
            body = file.read(digests.part_bytes)
        answer = bucket.call(
            lambda: client.upload_part(
                Bucket=bucket.name,
                Key=key,
                UploadId=upload_id,
                PartNumber=index + 1,
                Body=body,
                ContentMD5=content_md5(digests.part_md5s[index]),
            ),
            address=address,
            doing="write",
            expect=("NoSuchUpload",),
        )
        return {"PartNumber": index + 1, "ETag": answer["ETag"]}

    pool = ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="upload")
    try:
        parts = list(pool.map(put, range(len(digests.part_md5s))))
        bucket.call(
            lambda: client.complete_multipart_upload(
                Bucket=bucket.name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            ),
            address=address,
            doing="write",
            expect=("NoSuchUpload",),
        )
    except AnsweredError:
        # Our request to complete it arrived although its answer was lost, or the server forgot the upload. Which
        # of the two it was, the look afterwards tells.
        return
    except BaseException:
        pool.shutdown(cancel_futures=True)
        with contextlib.suppress(Exception):
            client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload_id)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def content_md5(md5: bytes) -> str:
    """An MD5 as the Content-MD5 header wants it: the one checksum that every server knows."""
    return base64.b64encode(md5).decode()


def md5_of(data: bytes) -> bytes:
    """MD5, as a check of transport only."""
    return hashlib.md5(data, usedforsecurity=False).digest()
