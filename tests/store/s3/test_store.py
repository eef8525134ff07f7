"""What is particular to S3: credentials, buckets, parts, what the messages say, what the network does."""

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fault_proxy import FaultProxy
from tests.s3_servers import S3Server
from tests.stores import PART_BYTES, QUICK, s3_store
from tsp.errors import MissingKeyError, StoreError, StoreUnreachableError
from tsp.store import transfer
from tsp.store.base import KeyExistsError, Store, sha256_of
from tsp.store.open import open_store
from tsp.store.retry import RetryPolicy
from tsp.store.s3 import wire
from tsp.store.s3.quick import Quick
from tsp.store.s3.store import S3Store
from tsp.store.s3.upload import Sent
from tsp.store.s3.wire import Answer, Wire

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint_url, slow_sec=0.02) as running:
        yield running


@pytest.fixture
def behind(s3_server: S3Server, proxy: FaultProxy) -> Store:
    """An empty store that is reached through the proxy."""
    return s3_store(s3_server, endpoint_url=proxy.url)


def test_large_files_travel_in_parts_and_small_ones_do_not(behind: Store, proxy: FaultProxy, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size_bytes, num_parts in ((PART_BYTES, 0), (2 * PART_BYTES + 1, 3)):
        path.write_bytes(os.urandom(size_bytes))
        proxy.requests.clear()
        behind.upload("epoch_0.pth", path, sha256=sha256_of(path))
        asked = [f"{method} {key.partition('?')[2]}" for method, key in proxy.requests]
        assert len([one for one in asked if one.startswith("PUT") and "partNumber=" in one]) == num_parts
        assert len([one for one in asked if one.startswith("POST uploads")]) == (1 if num_parts else 0)
        assert behind.stat("epoch_0.pth").size_bytes == size_bytes


def test_the_digest_is_kept_with_the_object_for_other_tools(s3_server: S3Server, tmp_path: Path) -> None:
    store = s3_store(s3_server)
    assert isinstance(store, S3Store)
    path = tmp_path / "file"
    for size_bytes in (10, PART_BYTES + 1):
        path.write_bytes(os.urandom(size_bytes))
        store.upload("epoch_0.pth", path, sha256=sha256_of(path))
        head = store.bucket.client.head_object(Bucket=s3_server.bucket, Key=store.prefix.full("epoch_0.pth"))
        assert {name.lower(): value for name, value in head["Metadata"].items()} == {"sha256": sha256_of(path)}


@pytest.mark.parametrize("size_bytes", [10, PART_BYTES + 1])
def test_what_the_etag_proves_to_be_there_is_not_read_back(
    behind: Store, proxy: FaultProxy, tmp_path: Path, size_bytes: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size_bytes))
    behind.upload("epoch_0.pth", path, sha256=sha256_of(path))
    assert "PUT" in {method for method, _ in proxy.requests}
    assert "GET" not in {method for method, _ in proxy.requests}


def test_where_the_etag_says_nothing_the_object_is_read_back(
    behind: Store, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sent, "is_etag", lambda self, etag: False)
    path = tmp_path / "file"
    path.write_bytes(b"weights" * 1000)
    behind.upload("epoch_0.pth", path, sha256=sha256_of(path))
    assert [method for method, _ in proxy.requests] == ["PUT", "HEAD", "HEAD", "GET"]

    proxy.only = lambda method, path: method == "GET"
    proxy.script("damaged_answer", "damaged_answer", "damaged_answer")
    with pytest.raises(StoreError, match="differs from the file that was sent, after 3 tries"):
        behind.upload("epoch_0.pth", path, sha256=sha256_of(path))


@pytest.mark.parametrize("fault", ["error_500", "error_503", "reset", "lost_answer", "truncated", "slow"])
def test_every_verb_gets_over_a_fault(behind: Store, proxy: FaultProxy, tmp_path: Path, fault: str) -> None:
    path, back = tmp_path / "file", tmp_path / "back"
    path.write_bytes(os.urandom(PART_BYTES + 1))
    for verb in (
        lambda: behind.write("small", b"value"),
        lambda: behind.write("once", b"value", only_if_absent=True),
        lambda: behind.upload("large", path, sha256=sha256_of(path)),
        lambda: behind.download("large", back, sha256=sha256_of(path)),
        lambda: behind.read("small"),
        lambda: list(behind.list()),
        lambda: behind.stat("large"),
        lambda: behind.delete("once"),
    ):
        proxy.script(fault, "", fault, fault)
        verb()
        proxy._script.clear()
    assert proxy.counts[fault] >= 8
    assert back.read_bytes() == path.read_bytes()
    assert [(entry.key, entry.size_bytes) for entry in behind.list()] == [
        ("large", len(path.read_bytes())),
        ("small", 5),
    ]


def test_an_upload_is_whole_although_the_answer_to_its_completion_was_lost(
    behind: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PART_BYTES + 1))
    proxy.only = lambda method, path: method == "POST" and "uploadId=" in path
    proxy.script("lost_answer")
    behind.upload("epoch_0.pth", path, sha256=sha256_of(path))
    assert proxy.counts["lost_answer"] == 1
    assert len([path for method, path in proxy.requests if "partNumber=" in path]) == 2, "nothing was sent twice"


def test_bytes_damaged_on_their_way_are_sent_again(behind: Store, proxy: FaultProxy, tmp_path: Path) -> None:
    path, back = tmp_path / "file", tmp_path / "back"
    path.write_bytes(os.urandom(1000))
    proxy.only = lambda method, path: method in ("PUT", "GET")
    proxy.script("damaged_request", "", "damaged_answer")
    behind.upload("epoch_0.pth", path, sha256=sha256_of(path))
    behind.download("epoch_0.pth", back, sha256=sha256_of(path))
    assert proxy.counts["damaged_request"] == proxy.counts["damaged_answer"] == 1
    assert back.read_bytes() == path.read_bytes()


def test_a_part_damaged_on_its_way_is_sent_again_before_the_upload_is_completed(
    behind: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    path, back = tmp_path / "file", tmp_path / "back"
    path.write_bytes(os.urandom(3 * PART_BYTES + 1))
    proxy.only = lambda method, path: "partNumber=2&" in path
    proxy.script("damaged_request")
    behind.upload("epoch_0.pth", path, sha256=sha256_of(path))
    behind.download("epoch_0.pth", back, sha256=sha256_of(path))
    assert back.read_bytes() == path.read_bytes()
    assert proxy.counts["damaged_request"] == 1
    # rclone replaces no part: there the upload begins anew.
    completed = [path for method, path in proxy.requests if method == "POST" and "uploadId" in path]
    assert len(completed) == 1


def test_parts_whose_etag_is_no_md5_go_with_their_md5(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where objects are encrypted with a key of their own; one part is sent to find out."""
    real = Wire.ask

    def ask(self: Wire, method: str, target: str, *args: Any, **kwargs: Any) -> Answer:
        answer = real(self, method, target, *args, **kwargs)
        return replace(answer, headers={**answer.headers, "etag": '"5f3c"'}) if "partNumber" in target else answer

    monkeypatch.setattr(Wire, "ask", ask)
    monkeypatch.setattr("tsp.store.s3.upload.PARALLEL_PARTS", 1)
    store, path, back = s3_store(s3_server, endpoint_url=proxy.url), tmp_path / "file", tmp_path / "back"
    path.write_bytes(os.urandom(5 * PART_BYTES + 1))
    store.upload("epoch_0.pth", path, sha256=sha256_of(path))
    store.download("epoch_0.pth", back, sha256=sha256_of(path))
    assert back.read_bytes() == path.read_bytes()
    assert len([path for method, path in proxy.requests if "partNumber=" in path]) == 7


def test_where_parts_without_md5_are_refused_one_is_sent_to_find_out(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a bucket that locks objects by default."""
    real, refused = Wire.ask, []

    def ask(self: Wire, method: str, target: str, *args: Any, **kwargs: Any) -> Answer:
        if "partNumber" not in target:
            return real(self, method, target, *args, **kwargs)
        refused.append(target)
        return Answer(400, {}, b"<Error><Code>InvalidRequest</Code></Error>")

    monkeypatch.setattr(Wire, "ask", ask)
    monkeypatch.setattr("tsp.store.s3.upload.PARALLEL_PARTS", 1)
    store, path, back = s3_store(s3_server), tmp_path / "file", tmp_path / "back"
    path.write_bytes(os.urandom(3 * PART_BYTES + 1))
    store.upload("epoch_0.pth", path, sha256=sha256_of(path))
    store.download("epoch_0.pth", back, sha256=sha256_of(path))
    assert back.read_bytes() == path.read_bytes()
    assert len(refused) == 1


def test_a_cut_download_goes_on_where_it_stopped(s3_server: S3Server, proxy: FaultProxy, tmp_path: Path) -> None:
    path, back = tmp_path / "file", tmp_path / "out" / "back"
    path.write_bytes(os.urandom(3 << 20))
    store = s3_store(s3_server)
    store.upload("epoch_0.pth", path, sha256=sha256_of(path))
    impatient = open_store(s3_server.config(uri=store.uri, endpoint_url=proxy.url), retry=ONCE)
    proxy.only = lambda method, path: method == "GET"
    proxy.script("truncated")
    with pytest.raises(StoreUnreachableError):
        impatient.download("epoch_0.pth", back, sha256=sha256_of(path))
    assert not back.exists()
    (part,) = back.parent.iterdir()
    done_before = part.stat().st_size
    assert done_before > 1 << 20
    seen: list[int] = []
    impatient.download("epoch_0.pth", back, sha256=sha256_of(path), progress=lambda done, total: seen.append(done))
    assert min(seen) > done_before
    assert back.read_bytes() == path.read_bytes()
    assert os.listdir(back.parent) == ["back"]


def test_an_object_replaced_between_two_tries_is_read_anew(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    path, back = tmp_path / "file", tmp_path / "out" / "back"
    store = s3_store(s3_server)
    behind = open_store(s3_server.config(uri=store.uri, endpoint_url=proxy.url), retry=ONCE)
    proxy.only = lambda method, path: method == "GET"
    for content in (b"old" * 100_000, b"new" * 100_000):
        path.write_bytes(content)
        store.upload("epoch_0.pth", path, sha256=sha256_of(path))
        if content.startswith(b"old"):
            proxy.script("truncated")
            with pytest.raises(StoreUnreachableError):
                behind.download("epoch_0.pth", back)
    behind.download("epoch_0.pth", back)
    assert back.read_bytes() == b"new" * 100_000
    assert os.listdir(back.parent) == ["back"]


def test_an_object_replaced_while_it_is_read_is_never_mixed(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    store = s3_store(s3_server)
    behind = open_store(s3_server.config(uri=store.uri, endpoint_url=proxy.url), retry=QUICK)
    store.write("epoch_0.pth", b"o" * (3 << 20))
    replaced: list[int] = []

    def replace(done: int, total: int) -> None:
        if not replaced:
            replaced.append(done)
            store.write("epoch_0.pth", b"n" * (3 << 20))

    proxy.only = lambda method, path: method == "GET"
    proxy.script("truncated")
    behind.download("epoch_0.pth", tmp_path / "back", progress=replace)
    assert replaced
    assert set((tmp_path / "back").read_bytes()) == set(b"n")


def test_a_first_write_whose_answer_was_lost_counts_as_ours(behind: Store, proxy: FaultProxy) -> None:
    proxy.only = lambda method, path: method == "PUT"
    proxy.script("lost_answer")
    behind.write("run.json", b"mine", only_if_absent=True)
    with pytest.raises(KeyExistsError):
        behind.write("run.json", b"yours", only_if_absent=True)
    assert behind.read("run.json") == b"mine"


def test_random_faults_on_every_request_lose_nothing(s3_server: S3Server, tmp_path: Path) -> None:
    rates = {"error_500": 0.05, "error_503": 0.05, "reset": 0.05, "lost_answer": 0.05, "truncated": 0.05, "slow": 0.02}
    with FaultProxy(s3_server.endpoint_url, seed=7, rates=rates, slow_sec=0.02) as proxy:
        server = s3_server.config(f"faults/{os.urandom(4).hex()}", endpoint_url=proxy.url)
        store = open_store(server, retry=RetryPolicy(attempts=8, first_delay_sec=0.005), part_bytes=PART_BYTES)
        path, back = tmp_path / "file", tmp_path / "back"
        for number in range(12):
            path.write_bytes(os.urandom(PART_BYTES + 1 if number % 6 == 0 else 1000))
            store.upload(f"epoch_{number}.pth", path, sha256=sha256_of(path))
            store.write("progress.json", str(number).encode())
            store.download(f"epoch_{number}.pth", back, sha256=sha256_of(path))
        assert store.read("progress.json") == b"11"
        assert len(list(store.list("epoch_"))) == 12
        assert sum(count for fault, count in proxy.counts.items() if fault) >= 10


@pytest.mark.parametrize("key", ["run/a.bin", "run/a b+c%2F~", "run/ü€", "run/a=b&c;d,e:f@g(h)*'!"])
def test_small_listed_objects_are_read_by_one_signed_get(
    s3_server: S3Server, behind: Store, proxy: FaultProxy, tmp_path: Path, key: str
) -> None:
    behind.write(key, b"small")
    (entry,) = behind.list("run/")
    proxy.requests.clear()
    behind.download(key, tmp_path / "a", entry=entry)
    assert (tmp_path / "a").read_bytes() == b"small"
    assert [method for method, _ in proxy.requests] == ["GET"]


@pytest.mark.parametrize("fault", ["error_503", "reset", "truncated", "lost_answer"])
def test_the_short_path_gets_over_a_fault(behind: Store, proxy: FaultProxy, tmp_path: Path, fault: str) -> None:
    behind.write("a.bin", b"small" * 100)
    (entry,) = behind.list()
    proxy.only = lambda method, path: method == "GET"
    proxy.script(fault, fault)
    behind.download("a.bin", tmp_path / "a", entry=entry, sha256=hashlib.sha256(b"small" * 100).hexdigest())
    assert (tmp_path / "a").read_bytes() == b"small" * 100
    behind.delete("a.bin")
    with pytest.raises(MissingKeyError, match=r"a\.bin"):
        behind.download("a.bin", tmp_path / "b", entry=entry)


def test_a_server_that_keeps_one_waiting_is_mentioned(
    behind: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsp.store.s3.client.SAY_AFTER_SEC", 0.0)
    behind.write("a", b"x")
    proxy.script("error_503", "error_503")
    with caplog.at_level("WARNING", logger="tsp"):
        assert behind.read("a") == b"x"
    assert "waiting for" in caplog.text
    assert "SlowDown" in caplog.text


def test_a_large_object_is_read_in_ranges_and_whole(
    behind: Store, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "RANGE_BYTES", 1 << 20)
    monkeypatch.setattr(transfer, "PARALLEL_FROM_BYTES", 1 << 20)
    content = random.Random(5).randbytes((4 << 20) + 17)
    path = tmp_path / "large"
    path.write_bytes(content)
    behind.upload("large", path, sha256=hashlib.sha256(content).hexdigest())
    proxy.requests.clear()
    proxy.script("", "reset", "truncated", "error_503", "damaged_answer")
    behind.download("large", tmp_path / "back", sha256=hashlib.sha256(content).hexdigest())
    assert (tmp_path / "back").read_bytes() == content
    assert len([method for method, _ in proxy.requests if method == "GET"]) >= 5


def test_a_process_keeps_its_connections_and_a_forked_one_makes_its_own(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_store(s3_server).bucket
    quick, client = bucket.quick, bucket.client
    assert quick is not None
    assert (bucket.quick, bucket.client) == (quick, client)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert bucket.quick is not quick
    assert bucket.client is not client


@pytest.mark.parametrize("fault", ["drip", "drip_headers"])
def test_a_server_that_drips_bytes_without_end_is_given_up_and_asked_again(
    behind: Store, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(wire, "PACE_SEC", 0.2)
    monkeypatch.setattr(transfer, "RANGE_BYTES", 1 << 20)
    monkeypatch.setattr(transfer, "PARALLEL_FROM_BYTES", 1 << 20)
    content = random.Random(6).randbytes(3 << 20)
    path, digest = tmp_path / "large", hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    behind.upload("large", path, sha256=digest)
    proxy.only = lambda method, path: method == "GET"
    proxy.script(fault)
    behind.download("large", tmp_path / "back", sha256=digest)
    assert (tmp_path / "back").read_bytes() == content
    behind.write("small", content[:5000])
    proxy.script(fault)
    assert behind.read("small") == content[:5000]
    assert proxy.counts[fault] == 2


@pytest.mark.parametrize("path_style", [True, False], ids=["ours", "boto3's"])
def test_a_server_that_only_drips_is_unreachable_on_either_path(
    s3_server: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, path_style: bool
) -> None:
    monkeypatch.setattr(wire, "PACE_SEC", 0.1)
    if not path_style:
        monkeypatch.setattr(Quick, "can_reach", lambda url: False)
    store = s3_store(s3_server, endpoint_url=proxy.url)
    store.write("log", b"x" * 100_000)
    proxy.only, proxy.rates = lambda method, path: method == "GET", {"drip": 1.0}
    with pytest.raises(StoreUnreachableError):
        store.read("log")
    assert proxy.counts["drip"] >= QUICK.attempts
