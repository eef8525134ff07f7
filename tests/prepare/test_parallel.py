"""Many files in processes: one result each, even if one of them kills its process."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from cli.runs.job_progress import DONE
from tsp.prepare.parallel import for_each


def double(number: int) -> int:
    return 2 * number


def take_long(number: int) -> int:
    time.sleep(600 if number else 0)
    return number


def die_on_three(number: int) -> int:
    if number == 3:
        os._exit(1)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_has_its_result(workers):
    assert dict(for_each(double, list(range(5)), workers=workers)) == {0: 0, 1: 2, 2: 4, 3: 6, 4: 8}


def test_an_item_that_kills_its_process_is_found_and_the_others_are_done():
    results = dict(for_each(die_on_three, list(range(6)), workers=2, crashed=lambda number: -number))
    assert results == {0: 0, 1: 1, 2: 2, 3: -3, 4: 4, 5: 5}


def test_an_error_between_two_results_ends_the_processes_even_while_its_traceback_is_looked_at():
    results = for_each(double, list(range(50)), workers=2)
    next(results)
    assert multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt) as caught:
        results.throw(KeyboardInterrupt())
    assert caught.tb
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("after_sec", [0.0, 0.1, 0.3, 0.6, 1.0, 2.0])
def test_ctrl_c_ends_all_processes_without_a_word_of_theirs(after_sec):
    """At once the server is still importing; later its children are at work, or wait for some."""
    script = (
        "import sys\n"
        "from tests.prepare.test_parallel import take_long\n"
        "from tsp.prepare.parallel import for_each\n"
        "try:\n"
        "    print('begun', flush=True)\n"
        "    list(for_each(take_long, range(3), workers=3))\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    terminal = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert terminal.stdout.readline() == "begun\n"
    time.sleep(after_sec)
    os.killpg(terminal.pid, signal.SIGINT)
    said = terminal.communicate(timeout=600)
    assert (terminal.returncode, said) == (130, ("", ""))


def test_progress_is_told_every_few_seconds_with_the_time_left_and_at_the_end(monkeypatch, caplog):
    monkeypatch.setattr("tsp.prepare.parallel.time.monotonic", iter(range(0, 1000, 6)).__next__)
    with caplog.at_level(logging.INFO):
        list(for_each(double, list(range(20)), workers=1, noun="files"))
    # A look after every file, which took 6 s each: every second look is 12 s after the last line.
    assert caplog.messages[0] == "2 of 20 files, about 2 min left"
    assert [DONE.match(f"INFO {line}")[3] for line in caplog.messages] == ["files"] * 10  # for status
    assert [line.split(",")[0] for line in caplog.messages] == [f"{done} of 20 files" for done in range(2, 21, 2)]


def test_a_line_comes_when_ten_seconds_have_passed_and_tells_the_minutes_left(monkeypatch, caplog):
    monkeypatch.setattr("tsp.prepare.parallel.time.monotonic", iter(range(0, 1000, 5)).__next__)
    with caplog.at_level(logging.INFO):
        list(for_each(double, list(range(20)), workers=1))
    assert caplog.messages[0] == "2 of 20 videos, about 2 min left"  # 18 videos of 5 s are one minute and a half
    assert caplog.messages[-1] == "20 of 20 videos"
    assert len(caplog.messages) == 10


def pid_of(_number: int) -> int:
    return os.getpid()


@pytest.mark.parametrize(("items", "workers", "is_here"), [([1], 4, True), ([1, 2], 1, True), ([1, 2], 2, False)])
def test_a_single_item_or_worker_needs_no_other_process(items, workers, is_here):
    pids = set(dict(for_each(pid_of, items, workers=workers)).values())
    assert (pids == {os.getpid()}) is is_here


def test_no_items_give_no_results():
    assert list(for_each(double, [], workers=2)) == []


def test_the_last_of_many_items_is_told(caplog):
    with caplog.at_level(logging.INFO):
        list(for_each(abs, list(range(300)), workers=1))
    assert caplog.messages[-1].startswith("300 of 300")
