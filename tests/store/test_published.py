"""Published data: verified by git's ids, resumed, never written over, from the web, a clone or S3."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy
from tests.s3_servers import S3Server, free_port
from tests.stores import QUICK, s3_store
from tsp.config import published_data
from tsp.config.published_data import PUBLISHED_DATA, PublishedFile, published_files
from tsp.config.recipes import GVF_OF_METHOD, load_dataset
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, StoreError, StoreUnreachableError
from tsp.store.base import Store
from tsp.store.open import open_store
from tsp.store.published import RAW_URL, blob_id, download_dataset, keys_of

CONTENT = {
    "data/thumos14/valid.csv": b"filename,t-start\n" * 40_000,
    "data/thumos14/labels.json": b'["Run"]',
    "data/thumos14/global_video_features/r2plus1d_34-max_gvf.h5": bytes(range(256)) * 900,
}


class Mirror(http.server.ThreadingHTTPServer):
    """Serves CONTENT by path, with ranges; counts what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.content = dict(CONTENT)
        self.asked: list[str] = []


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Mirror

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        data = self.server.content.get(self.path.lstrip("/"))
        status = 404 if data is None else 200
        data = data or b""
        begin = (self.headers["Range"] or "").removeprefix("bytes=").removesuffix("-")
        if status == 200 and begin:
            status, data = 206, data[int(begin) :]
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(autouse=True)
def _small_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = []
    for path, data in CONTENT.items():
        done = subprocess.run(["git", "hash-object", "--stdin"], input=data, capture_output=True, check=True)
        files.append(PublishedFile(path, done.stdout.decode().strip()))
    monkeypatch.setitem(published_data.PUBLISHED_DATA, "thumos14", tuple(files))


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def dest(tmp_path: Path) -> Store:
    return open_store(StoreConfig(uri=str(tmp_path / "data")))


def stored(store: Store) -> dict[str, bytes]:
    return {entry.key: store.read(entry.key) for entry in store.list()}


EXPECTED = {path.rpartition("/")[2]: data for path, data in CONTENT.items()}


def test_all_files_arrive_side_by_side_and_a_second_time_nothing_is_fetched(mirror: Mirror, dest: Store) -> None:
    arrivals = download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)
    assert stored(dest) == EXPECTED
    assert {item.state for item in arrivals} == {"downloaded"}
    asked = len(mirror.asked)
    again = download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)
    assert ({item.state for item in again}, len(mirror.asked)) == ({"there already"}, asked)
    (dest.local_path("labels.json") or Path()).unlink()
    states = [item.state for item in download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)]
    assert states == ["there already", "downloaded", "there already"]


@pytest.mark.parametrize(
    ("below", "is_flat"),
    [(below, is_flat) for below in ("data/thumos14", "thumos14", ".") for is_flat in (False, True)],
)
def test_a_clone_will_do_and_so_will_the_folder_of_the_files(
    tmp_path: Path, dest: Store, below: str, is_flat: bool
) -> None:
    for path, data in CONTENT.items():
        name = path.rpartition("/")[2] if is_flat else path.removeprefix("data/thumos14/")
        target = tmp_path / "clone" / below / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    download_dataset("thumos14", dest, source=str(tmp_path / "clone"))
    assert stored(dest) == EXPECTED


def test_a_folder_that_does_not_exist_is_said_to(tmp_path: Path, dest: Store) -> None:
    with pytest.raises(ConfigError, match=r"/nowhere does not exist: give a clone"):
        download_dataset("thumos14", dest, source=str(tmp_path / "nowhere"))
    (tmp_path / "a.zip").touch()
    with pytest.raises(ConfigError, match=r"/a\.zip is not a folder: give a clone"):
        download_dataset("thumos14", dest, source=str(tmp_path / "a.zip"))


def test_from_s3_to_s3(s3_server: S3Server) -> None:
    source, dest = s3_store(s3_server), s3_store(s3_server)
    for path, data in CONTENT.items():
        source.write(path, data)
    download_dataset("thumos14", dest, source=source.uri, settings=s3_server.config(""))
    assert stored(dest) == EXPECTED


def test_a_corrupt_file_is_refused_and_leaves_nothing_but_a_later_try_succeeds(mirror: Mirror, dest: Store) -> None:
    bad = "data/thumos14/labels.json"
    mirror.content[bad] = b'["Walk"]'
    with pytest.raises(StoreError, match=rf"{bad} is damaged or another version"):
        download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)
    assert stored(dest) == {name: data for name, data in EXPECTED.items() if name != "labels.json"}
    mirror.content[bad] = CONTENT[bad]
    download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)
    assert stored(dest) == EXPECTED


def test_a_missing_file_is_named_with_where_it_was_looked_for(mirror: Mirror, dest: Store) -> None:
    del mirror.content["data/thumos14/labels.json"]
    with pytest.raises(StoreError, match=r"lacks labels\.json \(tried data/thumos14/labels\.json, thumos14/"):
        download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)


def test_all_that_is_wrong_with_a_source_is_said_at_once_and_the_rest_arrives(mirror: Mirror, dest: Store) -> None:
    del mirror.content["data/thumos14/labels.json"]
    mirror.content["data/thumos14/valid.csv"] = b""
    with pytest.raises(StoreError, match=r"(?s)valid\.csv is damaged.*lacks labels\.json|lacks.*is damaged"):
        download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)
    assert stored(dest) == {name: data for name, data in EXPECTED.items() if name not in ("labels.json", "valid.csv")}


def test_a_download_that_breaks_off_goes_on_where_it_was(mirror: Mirror, dest: Store) -> None:
    with FaultProxy(mirror.url) as proxy:
        proxy.script("truncated")
        with pytest.raises(StoreUnreachableError):
            download_dataset("thumos14", dest, source=proxy.url, retry=type(QUICK)(attempts=1))
        download_dataset("thumos14", dest, source=proxy.url, retry=QUICK)
    assert stored(dest) == EXPECTED


def test_without_network_one_message_has_every_address_and_the_way_around(dest: Store) -> None:
    with pytest.raises(StoreUnreachableError) as caught:
        download_dataset("thumos14", dest, source=f"http://127.0.0.1:{free_port()}", retry=QUICK)
    message = str(caught.value)
    assert "--from FOLDER" in message
    assert all(f"{RAW_URL}/{path}" in message for path in CONTENT)


def test_a_file_of_ones_own_is_not_written_over(mirror: Mirror, dest: Store) -> None:
    dest.write("labels.json", b'["mine"]')
    with pytest.raises(ConfigError, match=r"labels\.json exists but is not the published file.*--overwrite"):
        download_dataset("thumos14", dest, source=mirror.url, retry=QUICK)
    assert dest.read("labels.json") == b'["mine"]'
    download_dataset("thumos14", dest, source=mirror.url, overwrite=True, retry=QUICK)
    assert stored(dest) == EXPECTED


def test_a_data_set_that_nobody_publishes_is_refused(dest: Store) -> None:
    with pytest.raises(ConfigError, match="thumos14 or activitynet"):
        download_dataset("demo", dest)


@pytest.mark.parametrize("dataset", ["thumos14", "activitynet"])
def test_what_a_run_of_the_data_set_reads_is_among_the_files(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = {file.name for file in published_files(dataset)}
    shipped = load_dataset(dataset)
    gvf = str(shipped.gvf).replace("{backbone}", "r2plus1d_34").replace("{pool}", GVF_OF_METHOD["tsp"])
    assert {shipped.train.csv, shipped.valid.csv, *shipped.labels.values(), gvf} <= names
    ids = [file.blob_id for file in PUBLISHED_DATA[dataset]]
    assert all(len(item) == 40 and int(item, 16) >= 0 for item in ids)


@pytest.mark.parametrize("dataset", ["thumos14", "activitynet"])
def test_ids_are_those_of_the_real_files(shared_dir: Path, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder = shared_dir / "data" / dataset
    found = {file.name for file in published_files(dataset) if (folder / file.name).exists()}
    assert len(found) >= 6
    for file in published_files(dataset):
        if file.name in found:
            assert blob_id(folder / file.name) == file.blob_id


@pytest.mark.parametrize("path", ["a", "data/a", "data/thumos14/a", "data/thumos14/features/a", "x/y/z/features/a"])
def test_a_file_is_looked_for_at_its_path_and_bare_however_deep_it_lies(path: str) -> None:
    keys = list(keys_of(PublishedFile(path, "0" * 40)))
    assert keys[0] == path
    assert "a" in keys
