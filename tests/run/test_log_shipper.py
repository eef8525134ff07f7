"""Logs in the store while they are being written."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy
from tests.s3_servers import S3Server
from tests.stores import QUICK, s3_store
from tests.waiting import wait_until
from tsp.config.store import StoreConfig
from tsp.errors import MissingKeyError, StoreError
from tsp.run.log_shipper import LogShipper
from tsp.store.base import Store
from tsp.store.open import open_store
from tsp.store.scratch import LOCK

KEY = "first-run/logs/attempt-1/rank-0.log"


def content(store: Store) -> str:
    try:
        return store.read(KEY).decode()
    except MissingKeyError:
        return ""


def test_lines_show_up_while_the_log_is_open_and_all_are_there_after_it(store: Store) -> None:
    shipper = LogShipper(store, KEY, every_sec=0.05)
    logger = logging.Logger("rank")
    logger.addHandler(logging.StreamHandler(shipper))
    logger.warning("step 1")
    wait_until(lambda: content(store) == "step 1\n")
    logger.warning("step 2: größer")
    wait_until(lambda: content(store).endswith("größer\n"))
    logger.warning("step 3")
    shipper.close()
    assert content(store) == "step 1\nstep 2: größer\nstep 3\n"
    shipper.write("after the end\n")
    assert content(store).endswith("step 3\n")


def test_the_first_lines_do_not_wait_for_their_turn_since_many_ranks_die_while_they_start(s3_server: S3Server) -> None:
    store = s3_store(s3_server)
    shipper = LogShipper(store, KEY, every_sec=3600)
    shipper.write("this rank has 8 GPUs\n")
    wait_until(lambda: content(store) == "this rank has 8 GPUs\n")
    shipper.write("and 4 GiB of memory\n")
    wait_until(lambda: content(store) == "this rank has 8 GPUs\nand 4 GiB of memory\n")
    shipper.close()


def test_a_local_log_needs_no_thread_and_goes_on_where_it_stopped(local_store: Store) -> None:
    for number in (1, 2):
        shipper = LogShipper(local_store, KEY, every_sec=60)
        shipper.write(f"start {number}\n")
        assert content(local_store).endswith(f"start {number}\n")
        shipper.close()
    assert content(local_store) == "start 1\nstart 2\n"


def test_a_log_that_stands_still_is_not_sent_again(s3_server: S3Server) -> None:
    with FaultProxy(s3_server.endpoint_url) as proxy:
        shipper = LogShipper(s3_store(s3_server, endpoint_url=proxy.url), KEY, every_sec=0.02)
        shipper.write("one line, and not a short one\n" * 100)
        wait_until(lambda: any(method == "PUT" for method, _ in proxy.requests))
        time.sleep(0.3)
        shipper.close()
        assert [method for method, _ in proxy.requests].count("PUT") == 1


def test_a_store_that_fails_never_stops_the_writer(s3_server: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    with FaultProxy(s3_server.endpoint_url) as proxy:
        store = s3_store(s3_server, endpoint_url=proxy.url)
        proxy.down = True
        shipper = LogShipper(store, KEY, every_sec=0.02)
        shipper.write("during the outage\n")
        wait_until(lambda: "the log cannot be sent at the moment" in caplog.text)
        shipper.write("still going\n")
        time.sleep(0.2)
        proxy.down = False
        shipper.close()
        assert content(store) == "during the outage\nstill going\n"
        assert caplog.text.count("the log cannot be sent at the moment") == 1


def test_a_log_without_end_is_cut_and_says_so(store: Store) -> None:
    shipper = LogShipper(store, KEY, every_sec=60, max_bytes=100)
    for _ in range(50):
        assert shipper.write("ten bytes\n") == 10
    shipper.close()
    end = "[the rest of this log is left out: it is longer than 100 bytes]\n"
    assert content(store) == "ten bytes\n" * 9 + end


def test_a_local_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match="store is not a folder"):
        LogShipper(open_store(StoreConfig(uri=str(tmp_path / "store"))), KEY)


KILLED_WHILE_IT_SENDS = """
import os, time
from tsp.run.log_shipper import LogShipper

class Remote:
    def local_path(self, key):
        return None

    def upload(self, key, path, *, sha256):
        print(path, path.read_text(), flush=True)
        os._exit(9)

shipper = LogShipper(Remote(), "rank-0.log", every_sec=0)
shipper.write("line")
time.sleep(600)
"""


def test_a_rank_that_is_killed_leaves_no_log_on_this_machine_once_the_next_one_sends_its_own(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_IT_SENDS]
    killed = subprocess.run(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True)
    path, text = killed.stdout.split()
    assert (killed.returncode, text) == (9, "line")
    assert files_below(tmp_path) == [Path(path)]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shipper = LogShipper(open_store(s3_server.config("logs"), retry=QUICK), KEY, every_sec=0.05)
    shipper.write("line\n")
    shipper.close()
    assert files_below(tmp_path) == []


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
