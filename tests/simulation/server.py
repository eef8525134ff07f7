"""A simulated S3 server, and the client that speaks to it: delays, lost answers, throttling, stale lists, outages."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, BinaryIO, Literal

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.simulation.scheduler import World


@dataclass(frozen=True)
class Faults:
    """Chances per request."""

    refused: float = 0.0
    """It never arrives."""
    lost_answer: float = 0.0
    """It is done, and nobody hears of it."""
    throttled: float = 0.0
    stale_list: float = 0.0
    forgets_uploads: float = 0.0
    """A multipart upload is gone when it is completed."""
    truncated: float = 0.0
    """A body ends early."""


@dataclass(frozen=True)
class Object:
    data: bytes
    etag: str
    modified: datetime


class Server:
    """One bucket. ``after_change`` is called after each change, with the key."""

    def __init__(self, world: World, faults: Faults, *, skew_sec: float = 0.0) -> None:
        self.world, self.faults, self.skew_sec = world, faults, skew_sec
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.is_down = False
        self.conditions: Literal["honoured", "refused", "ignored"] = "honoured"
        """What becomes of If-None-Match."""
        self.num_requests = self.num_uploads = 0
        self.writes: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
        """Process and key -> whether each request to write it was done."""
        self.after_change: Callable[[str], None] = lambda key: None
        self._past: list[dict[str, Object]] = []

    @property
    def clock(self) -> datetime:
        """The time by the server's own clock."""
        return datetime.fromtimestamp(self.world.now + self.skew_sec, UTC)

    def put(self, key: str, data: bytes, *, parts: int = 0, part_md5s: bytes = b"") -> str:
        """Store an object."""
        md5 = hashlib.md5(part_md5s if parts else data, usedforsecurity=False).hexdigest()
        etag = f'"{md5}-{parts}"' if parts else f'"{md5}"'
        self._remember()
        self.objects[key] = Object(data, etag, self.clock)
        self.after_change(key)
        return etag

    def delete(self, key: str) -> None:
        """Remove an object."""
        if key in self.objects:
            self._remember()
            del self.objects[key]
            self.after_change(key)

    def listed(self) -> dict[str, Object]:
        """What a list shows: the present, or a moment of the near past."""
        if self._past and self.world.random.random() < self.faults.stale_list:
            return self.world.random.choice(self._past)
        return self.objects

    def _remember(self) -> None:
        self._past = [*self._past[-3:], dict(self.objects)]


class Client:
    """What boto3's client is to the store; the same for all processes."""

    def __init__(self, server: Server) -> None:
        self._server, self._world = server, server.world

    def put_object(self, *, Key: str, Body: bytes, IfNoneMatch: str | None = None, **_: Any) -> Any:
        assert self._world.current is not None
        tries = self._server.writes[self._world.current.process.name, Key]
        tries.append(False)

        def put() -> Any:
            if IfNoneMatch and self._server.conditions == "refused":
                raise refusal("NotImplemented", 501)
            if IfNoneMatch and self._server.conditions == "honoured" and Key in self._server.objects:
                raise refusal("PreconditionFailed", 412)
            tries[-1] = True
            return {"ETag": self._server.put(Key, bytes(Body))}

        return self._ask(put)

    def get_object(self, *, Key: str, Range: str = "", **_: Any) -> Any:
        def get() -> Any:
            found = self._find(Key)
            data, extra = found.data, {}
            if Range:
                first, _, last = Range.removeprefix("bytes=").partition("-")
                if int(first) >= len(data):
                    raise refusal("InvalidRange", 416)
                data, extra = data[int(first) : int(last) + 1 if last else None], {"ContentRange": Range}
            return {"Body": Body(data, cut=self._draw(self._server.faults.truncated)), "ETag": found.etag, **extra}

        return self._ask(get)

    def head_object(self, *, Key: str, **_: Any) -> Any:
        def head() -> Any:
            if Key not in self._server.objects:
                raise refusal("404", 404)
            found = self._server.objects[Key]
            return {"ContentLength": len(found.data), "ETag": found.etag, "LastModified": found.modified}

        return self._ask(head)

    def head_bucket(self, **_: Any) -> Any:
        return self._ask(lambda: {"ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(self._server.clock)}}})

    def list_objects_v2(self, *, Prefix: str = "", Delimiter: str = "", **_: Any) -> Any:
        def listing() -> Any:
            keys = sorted(key for key in self._server.listed() if key.startswith(Prefix))
            if Delimiter:
                folders = {key[len(Prefix) :].partition("/")[0] for key in keys if "/" in key[len(Prefix) :]}
                return {"CommonPrefixes": [{"Prefix": f"{Prefix}{name}/"} for name in sorted(folders)]}
            found = {key: self._server.objects.get(key) or self._server.listed().get(key) for key in keys}
            return {
                "Contents": [
                    {"Key": key, "Size": len(item.data), "LastModified": item.modified, "ETag": item.etag}
                    for key, item in found.items()
                    if item is not None
                ]
            }

        return self._ask(listing)

    def delete_object(self, *, Key: str, **_: Any) -> Any:
        return self._ask(lambda: self._server.delete(Key) or {})

    def create_multipart_upload(self, *, Key: str, **_: Any) -> Any:
        def create() -> Any:
            self._server.num_uploads += 1
            upload = f"upload-{self._server.num_uploads}"
            self._server.uploads[upload] = (Key, {})
            return {"UploadId": upload}

        return self._ask(create)

    def upload_part(self, *, UploadId: str, PartNumber: int, Body: BinaryIO, **_: Any) -> Any:
        data = Body.read()

        def put() -> Any:
            self._upload(UploadId)[1][PartNumber] = data
            return {"ETag": hashlib.md5(data, usedforsecurity=False).hexdigest()}

        return self._ask(put)

    def complete_multipart_upload(self, *, UploadId: str, MultipartUpload: Any, **_: Any) -> Any:
        def complete() -> Any:
            if self._draw(self._server.faults.forgets_uploads):
                self._server.uploads.pop(UploadId, None)
            key, parts = self._upload(UploadId)
            bodies = [parts[part["PartNumber"]] for part in MultipartUpload["Parts"]]
            md5s = b"".join(hashlib.md5(body, usedforsecurity=False).digest() for body in bodies)
            del self._server.uploads[UploadId]
            return {"ETag": self._server.put(key, b"".join(bodies), parts=len(bodies), part_md5s=md5s)}

        return self._ask(complete)

    def abort_multipart_upload(self, *, UploadId: str, **_: Any) -> Any:
        return self._ask(lambda: self._server.uploads.pop(UploadId, None))

    def _ask(self, do: Callable[[], Any]) -> Any:
        """Wait, do it, wait; the process may die, and answers get lost, at either wait."""
        faults = self._server.faults
        self._server.num_requests += 1
        self._world.pause(self._world.now + self._world.random.expovariate(20.0))
        if self._server.is_down or self._draw(faults.refused):
            raise ConnectionClosedError(endpoint_url="s3")
        if self._draw(faults.throttled):
            raise refusal("SlowDown", 503)
        answer = do()
        self._world.pause(self._world.now + self._world.random.expovariate(20.0))
        if self._draw(faults.lost_answer):
            raise ReadTimeoutError(endpoint_url="s3")
        return answer

    def _draw(self, chance: float) -> bool:
        return self._world.random.random() < chance

    def _find(self, key: str) -> Object:
        if key not in self._server.objects:
            raise refusal("NoSuchKey", 404)
        return self._server.objects[key]

    def _upload(self, upload: str) -> tuple[str, dict[int, bytes]]:
        if upload not in self._server.uploads:
            raise refusal("NoSuchUpload", 404)
        return self._server.uploads[upload]


class Body:
    """The body of an answer; one that is cut breaks off half way, as the real client's does."""

    def __init__(self, data: bytes, *, cut: bool) -> None:
        self._cut = cut and len(data) > 0
        self._file = io.BytesIO(data[: len(data) // 2] if self._cut else data)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if self._cut and (size < 0 or len(data) < size):
            raise ReadTimeoutError(endpoint_url="s3")
        return data

    def iter_chunks(self, size: int) -> Any:
        while chunk := self.read(size):
            yield chunk

    def close(self) -> None:
        """Nothing to let go of."""


def refusal(code: str, status: int) -> ClientError:
    """A server's error."""
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "simulated")
