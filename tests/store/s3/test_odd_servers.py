"""Servers in memory that each lack something: no ranges, no ETags, no conditions, small pages. Both ways of asking."""

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError
from tsp.store.base import KeyExistsError, sha256_of
from tsp.store.open import open_store
from tsp.store.retry import RetryPolicy
from tsp.store.s3 import client
from tsp.store.s3.store import S3Store
from tsp.store.s3.wire import Answer
from tsp.store.transfer import ChangedSourceError

TIME = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
CONTENT = bytes(range(100))


class Server:
    """A bucket in memory, asked as boto3's client; what it lacks is switched off."""

    has_ranges = has_etags = has_conditions = has_times = knows_conditions = True
    page_items = 1000
    damage: Callable[[bytes], bytes] = staticmethod(lambda data: data)
    status_of_head = 200
    meta = None

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []

    def _facts(self, data: bytes) -> dict[str, Any]:
        etag = {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} if self.has_etags else {}
        return {"ContentLength": len(data), **etag, **({"LastModified": TIME} if self.has_times else {})}

    def _refuse(self, status: int, code: str) -> ClientError:
        return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "X")

    def _find(self, key: str) -> bytes:
        if key not in self.objects:
            raise self._refuse(404, "NoSuchKey")
        return self.objects[key]

    def get_object(self, *, Bucket: str, Key: str, Range: str = "") -> dict[str, Any]:
        self.asked.append(("GET", Range))
        data = self._find(Key)
        if not Range or not self.has_ranges:
            return {"Body": io.BytesIO(data), **self._facts(data)}
        first, _, last = Range.removeprefix("bytes=").partition("-")
        if int(first) >= len(data):
            raise self._refuse(416, "InvalidRange")
        part = data[int(first) : int(last) + 1] if last else data[int(first) :]
        return {"Body": io.BytesIO(part), "ContentRange": f"bytes {first}-", **self._facts(data)}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.asked.append(("HEAD", Key))
        if self.status_of_head != 200:
            raise self._refuse(self.status_of_head, str(self.status_of_head))
        found = self._facts(self._find(Key))
        return found if self.has_times else {"ETag": found.get("ETag", "")}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentMD5: str = "", **more: Any) -> dict[str, Any]:
        self.asked.append(("PUT", Key))
        if {"IfNoneMatch", "IfMatch"} & more.keys() and not self.knows_conditions:
            raise self._refuse(501, "NotImplemented")
        if "IfMatch" in more and self.has_conditions and more["IfMatch"] != self._facts(self._find(Key))["ETag"]:
            raise self._refuse(412, "PreconditionFailed")
        if "IfNoneMatch" in more and self.has_conditions and Key in self.objects:
            raise self._refuse(412, "PreconditionFailed")
        self.objects[Key] = self.damage(Body)
        return self._facts(Body)

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.objects.pop(Key, None)
        return {"DeleteMarker": True} if Key.endswith("versioned") else {}

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str = "", Delimiter: str = "", ContinuationToken: str = "", MaxKeys: int = 1000
    ) -> dict[str, Any]:
        self.asked.append(("LIST", ContinuationToken))
        names = sorted(key for key in self.objects if key.startswith(Prefix))
        if Delimiter:
            names = sorted({Prefix + name[len(Prefix) :].partition("/")[0] + "/" for name in names})
        at = int(ContinuationToken or 0)
        page, more = names[at : at + self.page_items], at + self.page_items < len(names)
        found: dict[str, Any] = {
            "IsTruncated": more,
            **({"NextContinuationToken": f"{at + len(page)}"} if more else {}),
        }
        if Delimiter:
            return found | {"CommonPrefixes": [{"Prefix": name} for name in page]}
        items = [{"Key": key, "Size": len(self.objects[key]), **self._facts(self.objects[key])} for key in page]
        return found | {"Contents": items}


class QuickServer:
    """The same server, asked without boto3."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def ask(
        self,
        method: str,
        key: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        into: memoryview | None = None,
    ) -> Answer | None:
        headers = headers or {}
        try:
            if method == "GET" and query is not None:
                return None
            if method == "GET":
                found = self.server.get_object(Bucket="b", Key=key, Range=headers.get("range", ""))
                data = found["Body"].read()
                if into is not None and len(data) <= len(into):
                    into[: len(data)] = data
                return Answer(200, self._headers(found), data)
            if method == "HEAD":
                return Answer(200, self._headers(self.server.head_object(Bucket="b", Key=key)), b"")
            if method == "PUT":
                return Answer(200, self._headers(self.server.put_object(Bucket="b", Key=key, Body=bytes(body))), b"")
            deleted = self.server.delete_object(Bucket="b", Key=key)
            return Answer(204, {"x-amz-delete-marker": "true"} if deleted else {}, b"")
        except ClientError as error:
            code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            return Answer(status, {}, b"" if method == "HEAD" else f"<Code>{code}</Code>".encode())

    @staticmethod
    def _headers(found: Mapping[str, Any]) -> dict[str, str]:
        names = {"ETag": "etag", "ContentLength": "content-length", "ContentRange": "content-range"}
        known = {name: str(found[key]) for key, name in names.items() if key in found}
        time = {"last-modified": format_datetime(found["LastModified"], usegmt=True)} if "LastModified" in found else {}
        return known | time


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(params=["boto3", "quick"])
def odd(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A store below a prefix of that server, asked in either way."""
    monkeypatch.setattr(client, "make_client", lambda config: server)
    monkeypatch.setattr(client.Bucket, "quick", QuickServer(server) if request.param == "quick" else None)
    return S3Store(StoreConfig(uri="s3://b/team/x/"), retry=RetryPolicy(attempts=1), part_bytes=1 << 20)


RANGES = [(0, None), (1, None), (99, None), (100, None), (150, None), (0, 1), (0, 100), (10, 20), (95, 20), (100, 5)]


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize(("offset", "size"), RANGES)
def test_a_part_of_an_object_is_the_same_part_whether_or_not_the_server_knows_ranges(
    odd: S3Store, server: Server, has_ranges: bool, offset: int, size: int | None
) -> None:
    server.has_ranges = has_ranges
    server.objects["team/x/a"] = CONTENT
    expected = CONTENT[offset:] if size is None else CONTENT[offset : offset + size]
    assert odd.read("a", offset_bytes=offset, size_bytes=size) == expected
    last = "" if size is None else str(offset + size - 1)
    assert server.asked == [("GET", "" if not offset and size is None else f"bytes={offset}-{last}")]


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("offset", [0, 1, 60, 99])
def test_a_download_goes_on_from_any_byte(odd: S3Store, server: Server, has_ranges: bool, offset: int) -> None:
    server.has_ranges = has_ranges
    server.objects["team/x/a"] = CONTENT
    source = odd._source("a")
    assert (source.size_bytes, source.address) == (100, "s3://b/team/x/a")
    assert b"".join(source.chunks(offset)) == CONTENT[offset:]
    assert source.range is not None
    for size in (1, 100 - offset):
        buffer = bytearray(size)
        source.range(offset, memoryview(buffer))
        assert bytes(buffer) == CONTENT[offset : offset + size]


@pytest.mark.parametrize("has_etags", [True, False])
def test_an_object_that_was_replaced_is_noticed_by_its_etag(odd: S3Store, server: Server, has_etags: bool) -> None:
    server.has_etags = has_etags
    server.objects["team/x/a"] = CONTENT
    source, buffer = odd._source("a"), bytearray(10)
    assert source.version == (f'"{hashlib.md5(CONTENT).hexdigest()}"' if has_etags else str(TIME))
    server.objects["team/x/a"] = CONTENT[::-1]
    assert source.range is not None
    for read in (lambda: list(source.chunks(0)), lambda: source.range(0, memoryview(buffer))):
        if has_etags:
            with pytest.raises(ChangedSourceError):
                read()
        else:
            read()
    again = odd._source("a")
    server.objects["team/x/a"] = CONTENT
    if has_etags:
        with pytest.raises(ChangedSourceError):
            list(again.chunks(0))
    server.objects["team/x/a"] = b""
    for read in (lambda: list(source.chunks(5)), lambda: source.range(5, memoryview(buffer))):
        with pytest.raises(ChangedSourceError):
            read()


def test_size_time_and_version_are_the_servers(odd: S3Store, server: Server) -> None:
    server.objects["team/x/a"] = CONTENT
    found = odd.stat("a")
    assert (found.key, found.size_bytes, found.modified) == ("a", 100, TIME)
    server.has_etags = False
    assert odd.stat("a").version == ""
    server.has_times = False
    with pytest.raises(StoreError, match=r"it knows no time or size of s3://b/team/x/a"):
        odd.stat("a")


def test_what_was_read_without_boto3_is_not_asked_for_again(odd: S3Store, server: Server) -> None:
    server.objects["team/x/a"] = CONTENT * 10
    source, buffer = odd._source("a"), bytearray(700)
    assert source.range is not None
    server.asked.clear()
    source.range(300, memoryview(buffer))
    assert bytes(buffer) == (CONTENT * 10)[300:]
    odd.stat("a")
    assert [method for method, _ in server.asked] == ["GET", "HEAD"]


def test_what_is_missing_is_asked_for_once(odd: S3Store, server: Server) -> None:
    server.objects["team/x/a"] = CONTENT
    odd.stat("a")
    for look in (odd.stat, odd.read):
        server.asked.clear()
        with pytest.raises(MissingKeyError, match="s3://b/team/x/none does not exist"):
            look("none")
        assert len(server.asked) == 1


def test_past_the_end_of_an_object_is_nothing_whatever_the_refusal_says(odd: S3Store, server: Server) -> None:
    server.objects["team/x/a"] = b"12345"
    assert [odd.read("a", offset_bytes=offset) for offset in (4, 5, 6)] == [b"5", b"", b""]


def test_files_travel_in_parts_of_16_mebibytes() -> None:
    store = open_store(StoreConfig(uri="s3://b"))
    assert isinstance(store, S3Store)
    assert store.part_bytes == 16 * 1024 * 1024


def test_what_is_missing_is_told_from_what_is_refused(odd: S3Store, server: Server) -> None:
    with pytest.raises(MissingKeyError, match="s3://b/team/x/none"):
        odd.stat("none")
    assert ("LIST", "") in server.asked, "the bucket itself is asked for, once"
    server.objects["team/x/a"] = CONTENT
    server.status_of_head, server.asked = 403, []
    with pytest.raises(StoreError) as refused:
        odd.stat("a")
    assert not isinstance(refused.value, MissingKeyError)
    assert server.asked[-1] == ("GET", "bytes=0-0"), "one byte tells why"
    server.status_of_head, server.asked = 404, []
    with pytest.raises(MissingKeyError):
        odd.stat("none")
    assert ("LIST", "") not in server.asked


@pytest.mark.parametrize("page_items", [1, 2, 3, 1000])
def test_lists_are_whole_however_short_their_pages_are(odd: S3Store, server: Server, page_items: int) -> None:
    server.page_items = page_items
    for key in ("team/x/a", "team/x/deep/b", "team/x/deep/er/c", "team/x/folder/", "team/xyz", "other"):
        server.objects[key] = key.encode()
    assert [(entry.key, entry.size_bytes) for entry in odd.list()] == [("a", 8), ("deep/b", 13), ("deep/er/c", 16)]
    assert [entry.key for entry in odd.list("deep/e")] == ["deep/er/c"]
    assert list(odd.list_folders("deep")) == list(odd.list_folders("deep/")) == ["b", "er"]
    odd.delete_all("")
    assert sorted(server.objects) == ["other", "team/xyz"]


@pytest.mark.parametrize(("uri", "full"), [("s3://b", "run/a"), ("s3://b/", "run/a"), ("s3://b/team", "team/run/a")])
def test_a_store_may_be_the_whole_bucket(odd: S3Store, server: Server, uri: str, full: str) -> None:
    whole = S3Store(StoreConfig(uri=uri), retry=odd.retry, part_bytes=odd.part_bytes)
    whole.write("run/a", b"x")
    assert list(server.objects) == [full]
    assert [entry.key for entry in whole.list("run/")] == ["run/a"]
    assert whole.address("run/a") == f"{uri.rstrip('/')}/run/a"


@pytest.mark.parametrize("uri", ["s3://", "s3:///team", "s3://b/team//x", "s3://b/./x", "s3://b/team/../x"])
def test_a_prefix_that_servers_change_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"no bucket|remove empty parts"):
        S3Store(StoreConfig(uri=uri), retry=RetryPolicy(attempts=1), part_bytes=1)


@pytest.mark.parametrize(
    ("lacks", "probed"), [((), True), (("has_conditions",), False), (("knows_conditions",), False)]
)
def test_of_two_that_write_once_the_first_wins_on_every_server(
    odd: S3Store, server: Server, lacks: tuple[str, ...], probed: bool
) -> None:
    for name in lacks:
        setattr(server, name, False)
    odd.write("once", b"mine", only_if_absent=True)
    assert odd.bucket.honours == {"IfNoneMatch": probed}
    with pytest.raises(KeyExistsError, match="s3://b/team/x/once exists already"):
        odd.write("once", b"yours", only_if_absent=True)
    assert server.objects == {"team/x/once": b"mine"}
    server.asked.clear()
    odd.write("twice", b"mine", only_if_absent=True)
    assert not [key for _, key in server.asked if "condition" in key], "what the server can do is tried once"
    assert not [method for method, _ in server.asked if method == "GET"], "what the server took is not read back"


@pytest.mark.parametrize(
    ("lacks", "probed"), [((), True), (("has_conditions",), False), (("knows_conditions",), False)]
)
def test_an_object_is_replaced_while_it_is_as_it_was_read_on_every_server(
    odd: S3Store, server: Server, lacks: tuple[str, ...], probed: bool
) -> None:
    for name in lacks:
        setattr(server, name, False)
    server.objects["team/x/key"] = b"read"
    assert odd.replace("key", b"changed", expected=b"read")
    assert not odd.replace("key", b"lost", expected=b"read")
    assert odd.bucket.honours == {"IfMatch": probed}
    assert server.objects == {"team/x/key": b"changed"}


@pytest.mark.parametrize("now", [b"other", None])
def test_an_object_that_changes_at_the_last_moment_is_not_replaced(
    odd: S3Store, server: Server, monkeypatch: pytest.MonkeyPatch, now: bytes | None
) -> None:
    full, real = "team/x/key", server.put_object
    server.objects[full] = b"read"

    def put_object(**asked: Any) -> Any:
        if asked["Key"] == full:
            server.objects.pop(full)
            server.objects.update({} if now is None else {full: now})
        return real(**asked)

    monkeypatch.setattr(server, "put_object", put_object)
    assert not odd.replace("key", b"changed", expected=b"read")
    assert server.objects == ({} if now is None else {full: now})


def test_without_the_right_to_list_a_change_is_written_with_a_warning(
    odd: S3Store, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Claims are found by listing; who may not list could never write otherwise."""
    server.has_conditions = False

    def list_objects_v2(**_: Any) -> Any:
        raise server._refuse(403, "AccessDenied")

    monkeypatch.setattr(server, "list_objects_v2", list_objects_v2)
    odd.change("key", lambda before: (before or b"") + b"x")
    assert server.objects == {"team/x/key": b"x"}
    assert "what another writes at this moment may be lost: " in caplog.text
    assert "s3:ListBucket" in caplog.text


@pytest.mark.parametrize(("there", "is_ours"), [(b"a", False), (b"m", True), (b"z", False)])
def test_of_two_that_look_at_the_same_moment_the_later_is_refused_unless_it_is_the_same_data(
    odd: S3Store, server: Server, monkeypatch: pytest.MonkeyPatch, there: bytes, is_ours: bool
) -> None:
    """Data that is there already may be that of our own request, whose answer was lost."""
    monkeypatch.setattr(odd, "exists", lambda key: False)
    server.objects["team/x/once"] = there
    if is_ours:
        odd.write("once", b"m", only_if_absent=True)
    else:
        with pytest.raises(KeyExistsError):
            odd.write("once", b"m", only_if_absent=True)
    assert server.objects == {"team/x/once": there}


def test_a_server_that_answers_a_write_without_an_etag_is_none(odd: S3Store, server: Server) -> None:
    server.has_etags = False
    with pytest.raises(StoreError, match="S3"):
        odd.write("a", b"x")


def test_a_file_that_arrives_damaged_is_sent_three_times_and_refused(
    odd: S3Store, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    server.has_etags = False
    odd.upload("whole", path, sha256=sha256_of(path))
    for damage in (lambda data: data[:-1], lambda data: data[::-1], lambda data: data + b"x"):
        server.damage, server.asked = damage, []
        with pytest.raises(StoreError, match="differs from the file that was sent, after 3 tries"):
            odd.upload("a", path, sha256=sha256_of(path))
        assert len([one for one in server.asked if one[0] == "PUT"]) == 3


@pytest.mark.parametrize("key", ["a", "versioned"])
def test_a_deletion_that_only_hides_an_object_is_remembered(odd: S3Store, server: Server, key: str) -> None:
    assert odd.keeps_versions is False
    server.objects[f"team/x/{key}"] = b"x"
    odd.delete(key)
    odd.delete("none")
    assert odd.keeps_versions is (key == "versioned")


def test_a_store_that_can_be_written_is_left_as_it_was_and_one_that_alters_bytes_is_refused(
    odd: S3Store, server: Server
) -> None:
    odd.check_writable()
    assert server.objects == {}
    for damage in (lambda data: data + b"x", lambda data: b"\0"):
        server.damage = damage
        with pytest.raises(StoreError, match="corrupts data"):
            odd.check_writable()


def test_a_store_that_is_sent_to_another_process_is_the_same_there(odd: S3Store) -> None:
    again = pickle.loads(pickle.dumps(odd))
    assert (again.uri, again.config, again.retry, again.part_bytes) == (odd.uri, odd.config, odd.retry, odd.part_bytes)
