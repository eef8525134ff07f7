"""Weights and checkpoints from files, S3 and the web: once per machine, resumed, verified."""

import hashlib
import http.server
import multiprocessing
import os
import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fault_proxy import FaultProxy
from tests.s3_servers import S3Server, free_port
from tests.stores import QUICK, s3_store
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, MissingKeyError, StoreError, StoreUnreachableError
from tsp.store import transfer
from tsp.store.base import sha256_of
from tsp.store.fetch import fetch_object, size_of
from tsp.store.retry import RetryPolicy
from tsp.store.scratch import cache_folder
from tsp.store.web import _explain

CONTENT = random.Random(0).randbytes(3 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Web(http.server.ThreadingHTTPServer):
    """Serves CONTENT under /weights.pth, with ranges and an ETag where wanted; counts what was asked."""

    ranges, etag = True, '"1"'

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        status = {"/weights.pth": 200, "/private.pth": 403}.get(self.path.partition("?")[0], 404)
        data = CONTENT if status == 200 else b""
        if status == 200 and self.server.ranges and self.headers["Range"]:
            status, data = 206, CONTENT[int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) :]
        self.send_response(status)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_file_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "my weights.pth"
    path.write_bytes(CONTENT)
    for uri in (str(path), f"file://{tmp_path}/my%20weights.pth"):
        assert fetch_object(uri, tmp_path / "cache", sha256=DIGEST) == path
    assert not (tmp_path / "cache").exists()
    with pytest.raises(StoreError, match=r"my weights\.pth has SHA-256 .*, expected 0000aaaa"):
        fetch_object(str(path), tmp_path, sha256="0000aaaa")
    with pytest.raises(ConfigError, match="there is no file"):
        fetch_object(str(tmp_path / "none.pth"), tmp_path)
    with pytest.raises(ConfigError, match=r"begins with ftp://: expected a path or s3://"):
        fetch_object("ftp://host/weights.pth", tmp_path)


@pytest.mark.parametrize("digest", [DIGEST, DIGEST[:8], None])
def test_a_file_on_the_web_is_downloaded_once(web: Web, tmp_path: Path, digest: str | None) -> None:
    seen: list[tuple[int, int]] = []
    uri = f"{web.url}/weights.pth?token=secret"
    cache = tmp_path / "not" / "made" / "yet"
    path = fetch_object(uri, cache, sha256=digest, progress=lambda *done: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert path.name.endswith("-weights.pth")
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch_object(uri, cache, sha256=digest) == path
    assert web.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_from_the_web_goes_on(web: Web, tmp_path: Path, ranges: bool) -> None:
    web.ranges = ranges
    with FaultProxy(web.url) as proxy:
        uri = f"{proxy.url}/weights.pth"
        proxy.script("truncated")
        with pytest.raises(StoreUnreachableError):
            fetch_object(uri, tmp_path, sha256=DIGEST, retry=RetryPolicy(attempts=1))
        path = fetch_object(uri, tmp_path, sha256=DIGEST, retry=QUICK)
    assert path.read_bytes() == CONTENT
    assert web.asked[0] is None
    assert web.asked[-1] is not None
    assert int(web.asked[-1].removeprefix("bytes=").removesuffix("-")) >= len(CONTENT) // 3


@pytest.mark.parametrize("fault", ["error_500", "error_503", "reset", "truncated", "damaged_answer", "slow"])
def test_the_web_may_fail_now_and_then(web: Web, tmp_path: Path, fault: str) -> None:
    with FaultProxy(web.url) as proxy:
        proxy.script(fault, "", fault)
        path = fetch_object(f"{proxy.url}/weights.pth", tmp_path, sha256=DIGEST[:8], retry=QUICK)
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_fetched_again(web: Web, tmp_path: Path) -> None:
    path = fetch_object(f"{web.url}/weights.pth", tmp_path, sha256=DIGEST)
    path.write_bytes(b"damaged")
    assert fetch_object(f"{web.url}/weights.pth", tmp_path, sha256=DIGEST).read_bytes() == CONTENT


def test_what_the_web_refuses_is_said_without_secrets(web: Web, tmp_path: Path) -> None:
    for name, kind, message in (
        ("none.pth", MissingKeyError, "does not exist"),
        ("private.pth", StoreError, "HTTP status 403"),
    ):
        with pytest.raises(kind, match=message) as caught:
            fetch_object(f"{web.url}/{name}?signature=secret", tmp_path)
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="user name or password") as refused:
        fetch_object("https://me:secret@host/x.pth", tmp_path)
    assert "secret" not in str(refused.value)
    with pytest.raises(StoreError, match="is damaged"):
        fetch_object(f"{web.url}/weights.pth", tmp_path, sha256="0" * 8)


def test_without_network_the_message_says_how_to_provide_the_weights(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}/weights.pth"
    with pytest.raises(StoreUnreachableError, match=r"cannot be reached .*--pretrained FILE .*--pretrained none"):
        fetch_object(uri, tmp_path, retry=QUICK)


def test_an_object_in_s3_is_fetched_once_and_again_when_it_was_replaced(s3_server: S3Server, tmp_path: Path) -> None:
    store = s3_store(s3_server)
    uri = store.address("weights.pth")
    settings = s3_server.config()
    store.write("weights.pth", b"first")
    path = fetch_object(uri, tmp_path / "cache", settings=settings, retry=QUICK)
    assert path.read_bytes() == b"first"
    with FaultProxy(s3_server.endpoint_url) as proxy:
        behind = s3_server.config(endpoint_url=proxy.url)
        assert fetch_object(uri, tmp_path / "cache", settings=behind, retry=QUICK) == path
        assert [method for method, _ in proxy.requests] == ["HEAD"]
        assert fetch_object(uri, tmp_path / "cache", settings=behind, sha256=sha256_of(path), retry=QUICK).is_file()
    store.write("weights.pth", b"second, longer")
    assert fetch_object(uri, tmp_path / "cache", settings=settings, retry=QUICK).read_bytes() == b"second, longer"
    with pytest.raises(MissingKeyError):
        fetch_object(f"{uri}.none", tmp_path / "cache", settings=settings, retry=QUICK)
    with pytest.raises(ConfigError, match="has no object"):
        fetch_object("s3://bucket", tmp_path / "cache", settings=settings)


def _fetch(uri: str, cache: str) -> None:
    assert fetch_object(uri, Path(cache), sha256=DIGEST).read_bytes() == CONTENT


def test_of_several_processes_one_downloads_and_all_get_the_file(web: Web, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_fetch, args=(f"{web.url}/weights.pth", str(tmp_path))) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0, 0, 0]
    assert web.asked == [None]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CACHE_HOME": "/cache", "HOME": "/root"}, "/cache/tspctl/weights"),
        ({"HOME": "HERE"}, "HERE/.cache/tspctl/weights"),
        ({}, "TEMP/cache-UID/tspctl/weights"),
    ],
)
def test_downloads_are_kept_below_the_users_own_cache_folder(environment, expected, tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
        if name in environment:
            monkeypatch.setenv(name, environment[name].replace("HERE", str(tmp_path)))
    expected = expected.replace("HERE", str(tmp_path)).replace("TEMP", tempfile.gettempdir())
    assert str(cache_folder("weights")) == expected.replace("UID", str(os.getuid()))


def test_the_size_of_an_object_is_known_without_its_bytes(web: Web, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"12345")
    assert [size_of(address) for address in (str(path), path.as_uri(), f"{web.url}/weights.pth")] == [5, 5, 3 << 20]
    with pytest.raises(ConfigError, match=r"there is no file .*gone\.pth"):
        size_of(str(tmp_path / "gone.pth"))
    with pytest.raises(StoreUnreachableError, match="cannot be reached: check the network"):
        size_of(f"http://127.0.0.1:{free_port()}/weights.pth")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, MissingKeyError),
        (410, MissingKeyError),
        (416, transfer.ChangedSourceError),
        (408, transfer.InterruptedTransferError),
        (429, transfer.InterruptedTransferError),
        (500, transfer.InterruptedTransferError),
        (503, transfer.InterruptedTransferError),
        (499, StoreError),
        (403, StoreError),
    ],
)
def test_an_answer_of_the_web_is_final_or_worth_another_try(status: int, kind: type[Exception]) -> None:
    assert type(_explain(status, "https://host/a")) is kind


def test_the_size_of_an_object_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    nobody = StoreConfig(uri="s3://b", endpoint_url=f"http://127.0.0.1:{free_port()}", region="us-east-1")
    with pytest.raises(StoreUnreachableError, match="within 1 try to"):
        size_of("s3://b/weights.pth", nobody)


@pytest.mark.parametrize(("num_changes", "is_read"), [(0, True), (2, True), (3, False)])
def test_a_source_that_is_replaced_meanwhile_is_looked_at_again_thrice(tmp_path, monkeypatch, num_changes, is_read):
    looks: list[int] = []

    def find() -> SimpleNamespace:
        looks.append(len(looks))
        return SimpleNamespace(address="s3://b/a.pth")

    def download(*_args: object, **_options: object) -> None:
        if len(looks) <= num_changes:
            raise transfer.ChangedSourceError("it was replaced")

    monkeypatch.setattr(transfer, "download", download)
    if is_read:
        transfer.download_latest(find, tmp_path / "a.pth")
    else:
        with pytest.raises(StoreError, match=r"s3://b/a\.pth is replaced more often than it can be read"):
            transfer.download_latest(find, tmp_path / "a.pth")
    assert len(looks) == min(num_changes + 1, 3)
