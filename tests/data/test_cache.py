"""Videos from a store: fetched once however many want them, bounded, nothing half left by a killed process."""

import contextlib
import errno
import multiprocessing
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tests.data.test_loader import contents
from tests.fault_proxy import FaultProxy
from tests.fork_server import server_with_our_environment
from tests.waiting import wait_until
from tsp.config.store import StoreConfig
from tsp.data.cache import VideoCache
from tsp.data.loader import build_loader
from tsp.data.prefetch import Prefetcher
from tsp.errors import ConfigError, DataError, MissingKeyError
from tsp.store.local import LocalStore
from tsp.store.open import open_store

SIZE = 1000
NUM_RANKS = 2
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store_dir(tmp_path) -> Path:
    """Eight objects of 1000 bytes."""
    folder = tmp_path / "store"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.mp4").write_bytes(bytes([number]) * SIZE)
    return folder


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """The keys that were downloaded, by any process."""
    log = tmp_path / "downloads"
    log.touch()
    original = LocalStore.download

    def download(self, key, path, **options):
        with open(log, "a") as file:
            file.write(f"{key}\n")
        time.sleep(0.02)
        original(self, key, path, **options)

    monkeypatch.setattr(LocalStore, "download", download)
    return lambda: log.read_text().split()


def make_cache(tmp_path, store_dir, limit_bytes=100 * SIZE):
    return VideoCache(tmp_path / "cache", StoreConfig(uri=str(store_dir)), limit_bytes=limit_bytes)


def names_in(tmp_path):
    return sorted(path.name.split("-")[1] for path in tmp_path.glob("cache/*/files/*"))


def test_an_object_is_downloaded_once_and_then_read_from_disk(tmp_path, store_dir, downloads):
    for _ in range(3):
        with make_cache(tmp_path, store_dir).reading("3.mp4") as path:
            assert path.read_bytes() == bytes([3]) * SIZE
    assert downloads() == ["3.mp4"]


def test_the_copy_that_a_worker_gets_opens_a_store_of_its_own(tmp_path, store_dir):
    cache = make_cache(tmp_path, store_dir)
    cache.fetch("0.mp4")
    assert "_store" in vars(cache)
    copy = pickle.loads(pickle.dumps(cache))
    assert "_store" not in vars(copy)
    assert copy.fetch("1.mp4") == SIZE


def _read_everything(cache, number):
    for key in range(8):
        with cache.reading(f"{(key + number) % 8}.mp4") as path:
            assert path.stat().st_size == SIZE


def test_processes_that_want_the_same_objects_download_each_once(tmp_path, store_dir, downloads):
    cache = make_cache(tmp_path, store_dir)
    processes = [FORK.Process(target=_read_everything, args=(cache, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(downloads()) == [f"{number}.mp4" for number in range(8)]


def test_the_cache_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path, store_dir, downloads):
    cache = make_cache(tmp_path, store_dir, limit_bytes=3 * SIZE)
    for key in (0, 1, 2, 0, 3):
        with cache.reading(f"{key}.mp4"):
            assert cache.size_bytes() <= 3 * SIZE
        time.sleep(0.01)
    assert names_in(tmp_path) == ["0.mp4", "2.mp4", "3.mp4"]
    assert downloads() == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


def test_the_store_is_listed_once_to_look_for_changes_and_sizes(tmp_path, store_dir, monkeypatch):
    listed, original = [], LocalStore.list
    monkeypatch.setattr(LocalStore, "list", lambda self, prefix="": listed.append(prefix) or original(self, prefix))
    cache = make_cache(tmp_path, store_dir)
    cache.drop_changed("")
    assert listed == []  # nothing is cached
    cache.fetch("0.mp4")
    (store_dir / "0.mp4").write_bytes(b"other")
    cache.drop_changed("")
    assert cache.entries("")["0.mp4"].size_bytes == 5
    assert listed == [""]
    (store_dir / "8.mp4").write_bytes(b"new")
    assert cache.entries("")["8.mp4"].size_bytes == 3
    assert cache.fetch("0.mp4") == 5


def test_a_file_in_use_is_not_evicted(tmp_path, store_dir):
    cache, other = (make_cache(tmp_path, store_dir, limit_bytes=2 * SIZE) for _ in range(2))
    with cache.reading("0.mp4") as path:
        for key in range(1, 8):
            with other.reading(f"{key}.mp4"):
                assert path.read_bytes() == bytes(SIZE)
    assert "0.mp4" in names_in(tmp_path)


def test_where_locks_are_refused_videos_are_read_and_nothing_is_evicted_under_a_reader(
    tmp_path, store_dir, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("tsp.store.locks.fcntl.flock", refuse)
    cache, other = (make_cache(tmp_path, store_dir, limit_bytes=2 * SIZE) for _ in range(2))
    with cache.reading("0.mp4") as path:
        for key in range(1, 5):
            with other.reading(f"{key}.mp4") as more:
                assert more.read_bytes() == bytes([key]) * SIZE
        assert path.read_bytes() == bytes(SIZE)
    cache.sweep()


def _die_in_download(cache):
    def kill_self(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = kill_self
    cache.fetch("5.mp4")


def test_a_process_killed_in_a_download_leaves_no_half_file_and_no_lock(tmp_path, store_dir):
    cache = make_cache(tmp_path, store_dir)
    process = FORK.Process(target=_die_in_download, args=(cache,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = list(tmp_path.glob("cache/*/files/.*"))
    assert len(left) == 1, "the download was not killed in its middle"
    assert not [path for path in tmp_path.glob("cache/*/files/*") if not path.name.startswith(".")]
    cache.sweep()
    assert not list(tmp_path.glob("cache/*/files/.*"))
    with cache.reading("5.mp4") as path:
        assert path.read_bytes() == bytes([5]) * SIZE


def test_an_object_larger_than_the_cache_says_what_to_raise(tmp_path, store_dir):
    cache = make_cache(tmp_path, store_dir, limit_bytes=SIZE - 1)
    with pytest.raises(ConfigError, match=r"0\.mp4 has .* more than the whole cache .*: raise data\.cache_mib"):
        cache.fetch("0.mp4")


def test_sizes_are_told_in_mib(tmp_path, store_dir):
    (store_dir / "large.mp4").write_bytes(bytes(5 << 20))
    cache = make_cache(tmp_path, store_dir, limit_bytes=3 << 20)
    with pytest.raises(ConfigError, match=r"large\.mp4 \w+ 5 MiB, .*\(3 MiB\): raise data\.cache_mib"):
        cache.fetch("large.mp4")


def test_prefetching_follows_the_order_and_stays_a_bounded_way_ahead(tmp_path, store_dir, downloads):
    cache = make_cache(tmp_path, store_dir)
    threads = threading.active_count()
    steps = [[f"{step}.mp4", "0.mp4"] for step in range(8)]
    with Prefetcher(cache, steps, ahead_bytes=3 * SIZE) as prefetcher:
        wait_until(lambda: len(downloads()) >= 3)
        time.sleep(0.2)
        # Each of the four threads may have one more in hand.
        assert len(downloads()) <= 3 + 4
        assert "7.mp4" not in downloads()
        prefetcher.advance(8)
        wait_until(lambda: len(downloads()) == 8)
    assert sorted(set(downloads())) == sorted(downloads())
    assert threading.active_count() - threads < 10, "idle threads of the store, bounded"


def test_a_missing_object_does_not_stop_prefetching(tmp_path, store_dir, downloads):
    cache = make_cache(tmp_path, store_dir)
    with Prefetcher(cache, [["nowhere.mp4"], ["1.mp4"]], ahead_bytes=3 * SIZE):
        wait_until(lambda: "1.mp4" in downloads())
    with pytest.raises(MissingKeyError), cache.reading("nowhere.mp4"):
        pass


@pytest.fixture
def s3_config(dataset_dir, s3_server, make_config, tmp_path):
    """A configuration whose data set lies in S3; the bucket's prefix is the test's own."""
    prefix = f"data-{tmp_path.name}"
    store = open_store(s3_server.config(prefix))
    for path in dataset_dir.rglob("*.*"):
        store.write(str(path.relative_to(dataset_dir)), path.read_bytes())

    def make(endpoint_url=s3_server.endpoint_url, **data):
        root = f"s3://{s3_server.bucket}/{prefix}"
        settings = {"cache_dir": str(tmp_path / "cache"), **data}
        return make_config(root, store=s3_server.config("results", endpoint_url=endpoint_url), **settings)

    make.store = store
    return make


@pytest.mark.parametrize("copy_format", ["mjpeg", "raw"])
def test_training_copies_from_s3_are_those_from_disk(s3_config, copies_dir, make_config, copy_format):
    root = copies_dir(copy_format)
    for path in (root / "videos").iterdir():
        s3_config.store.write(f"videos/{path.name}", path.read_bytes())
    local = contents(build_loader(make_config(root, training_copy=True), "train", batch=16))
    assert contents(build_loader(s3_config(training_copy=True), "train", batch=16)) == local


def test_clips_from_s3_are_those_from_disk_and_later_epochs_download_nothing(
    s3_config, dataset_dir, make_config, tmp_path, monkeypatch
):
    local = contents(build_loader(make_config(dataset_dir, gvf="max"), "train", batch=16, epoch=1))
    assert contents(build_loader(s3_config(gvf="max"), "train", batch=16, epoch=1)) == local
    monkeypatch.setattr("tsp.store.s3.store.S3Store.download", None)
    assert contents(build_loader(s3_config(one_pass=True), "valid", batch=16, epoch=2))
    assert sorted(path.name.split("-")[1] for path in tmp_path.glob("cache/*/files/*.mp4")) == [
        f"v{number}.mp4" for number in range(4)
    ]


@pytest.fixture
def workers_with_keys(s3_server, monkeypatch):
    """Lets data workers be forked from a server that has this test's environment."""
    with server_with_our_environment() as server:
        for name in ("ensure_running", "connect_to_new_process", "get_inherited_fds"):
            monkeypatch.setattr(forkserver, name, getattr(server, name))
        yield


def test_all_processes_of_a_node_together_fetch_each_video_once_and_never_again(
    s3_config, s3_server, workers_with_keys, tmp_path
):
    def read_epoch(endpoint_url, epoch):
        config = s3_config(endpoint_url, workers=2)
        loaders = [
            build_loader(config, "train", batch=8, rank=rank, world_size=2, epoch=epoch) for rank in range(NUM_RANKS)
        ]
        with ThreadPoolExecutor(NUM_RANKS) as ranks:
            return sorted(item for batches in ranks.map(contents, loaders) for batch in batches for item in batch[0])

    with FaultProxy(s3_server.endpoint_url) as proxy:
        assert read_epoch(proxy.url, 0) == list(range(60))
        fetched = [path.rpartition("/")[2] for method, path in proxy.requests if method == "GET" and ".mp4" in path]
        assert sorted(fetched) == [f"v{number}.mp4" for number in range(4)]
        proxy.requests.clear()
        assert read_epoch(proxy.url, 1) == list(range(60))
        assert not [path for _, path in proxy.requests if ".mp4" in path]
    assert not list(tmp_path.glob("cache/*/files/.*"))


def test_a_process_killed_amid_a_download_from_s3_leaves_nothing_that_is_taken_for_a_video(s3_server, tmp_path):
    prefix, body = f"large-{tmp_path.name}", os.urandom(6 << 20)
    open_store(s3_server.config(prefix)).write("long.mp4", body)
    with FaultProxy(s3_server.endpoint_url, only=lambda method, _: method == "GET", slow_sec=30) as proxy:
        proxy.script("slow")
        config = s3_server.config(prefix, endpoint_url=proxy.url)
        cache = VideoCache(tmp_path / "cache", config, limit_bytes=100 << 20)
        process = FORK.Process(target=cache.fetch, args=("long.mp4",))
        process.start()
        wait_until(lambda: cache.size_bytes() >= 1 << 20)
        process.kill()
        process.join()
        left = [path.name.startswith(".") for path in tmp_path.glob("cache/*/files/*")]
        assert left == [True], "the download was not killed in its middle"
        with cache.reading("long.mp4") as path:
            assert path.read_bytes() == body
    assert [path.name[0] != "." for path in tmp_path.glob("cache/*/files/*")] == [True]


def test_a_video_that_is_not_in_the_bucket_is_a_bad_clip(s3_config):
    s3_config.store.delete("videos/v0.mp4")
    with pytest.raises(DataError, match=r"there is no video s3://.*/videos/v0\.mp4 .*table\.csv row 2"):
        list(build_loader(s3_config(bad_clips="fail"), "valid", batch=1))
    with contextlib.suppress(DataError):
        batches = list(build_loader(s3_config(max_bad_share=1.0), "valid", batch=60))
        assert int((batches[0].items < 0).sum()) == 15
