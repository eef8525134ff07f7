"""CPU and memory of the control group, from made-up folders of both versions; and of this machine, whatever it has."""

import time
from types import SimpleNamespace

import pytest
import torch

from tsp.train.usage import Usage

CPU = torch.device("cpu")
MIB = 1 << 20


def group(folder, *, cpu_sec, memory_mib):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.stat").write_text(f"usage_usec {round(cpu_sec * 1e6)}\nuser_usec 1\nsystem_usec 1\n")
    (folder / "memory.current").write_text(f"{memory_mib * MIB}\n")


def test_a_pod_reads_its_own_group_at_the_root(tmp_path):
    group(tmp_path, cpu_sec=10.0, memory_mib=300)
    (tmp_path / "own").write_text("0::/\n")
    started = time.monotonic()
    usage = Usage(CPU, tmp_path, tmp_path / "own")
    group(tmp_path, cpu_sec=10.5, memory_mib=512)
    time.sleep(0.05)
    found = usage()
    took_sec = time.monotonic() - started
    assert found["memory_mib"] == 512
    # Half a second of computing within the time between the two readings.
    assert found["cpu_percent"] >= 100 * 0.5 / took_sec * 0.9


def test_on_a_machine_the_group_is_below_the_root(tmp_path):
    group(tmp_path, cpu_sec=0, memory_mib=9999)
    group(tmp_path / "user.slice" / "mine", cpu_sec=1, memory_mib=64)
    (tmp_path / "own").write_text("1:name=x:/other\n0::/user.slice/mine\n")
    assert Usage(CPU, tmp_path, tmp_path / "own")()["memory_mib"] == 64


def test_version_1_has_a_folder_for_each_resource(tmp_path):
    for name, value in (("cpuacct/cpuacct.usage", 2_000_000_000), ("memory/memory.usage_in_bytes", 100 * MIB)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"{value}\n")
    found = Usage(CPU, tmp_path, tmp_path / "none")()
    assert found["memory_mib"] == 100
    assert found["cpu_percent"] == 0


@pytest.mark.parametrize("content", ["", "max\n", "usage_usec lots\n"])
def test_what_cannot_be_read_is_left_out(tmp_path, content):
    for name in ("cpu.stat", "memory.current"):
        (tmp_path / name).write_text(content)
    assert Usage(CPU, tmp_path, tmp_path / "none")() == {}


def test_this_machine_does_not_fail():
    assert all(value >= 0 for value in Usage(CPU)().values())


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the clock shows."""
    now = SimpleNamespace(sec=1000.0)
    monkeypatch.setattr("tsp.train.usage.time.monotonic", lambda: now.sec)
    return now


def test_the_share_of_a_core_is_that_since_the_reading_before(tmp_path, clock):
    group(tmp_path, cpu_sec=10, memory_mib=1)
    usage = Usage(CPU, tmp_path, tmp_path / "none")
    assert "cpu_percent" not in usage()  # no time has passed
    for sec, cpu_sec, percent in ((4, 11.5, 37.5), (2, 15.5, 200.0), (8, 15.5, 0.0), (3, 16.5, 33.3)):
        clock.sec += sec
        group(tmp_path, cpu_sec=cpu_sec, memory_mib=1)
        assert usage()["cpu_percent"] == percent


def test_version_1_counts_nanoseconds(tmp_path, clock):
    counter = tmp_path / "cpuacct" / "cpuacct.usage"
    counter.parent.mkdir()
    counter.write_text("2000000000")
    usage = Usage(CPU, tmp_path, tmp_path / "none")
    clock.sec += 4
    counter.write_text("3000000000")
    assert usage() == {"cpu_percent": 25.0}


def test_half_a_mebibyte_more_is_rounded_up(tmp_path):
    group(tmp_path, cpu_sec=1, memory_mib=1)
    for num_bytes, mib in ((5 * MIB + MIB // 2 + 1, 6), (5 * MIB + MIB // 2 - 1, 5)):
        (tmp_path / "memory.current").write_text(str(num_bytes))
        assert Usage(CPU, tmp_path, tmp_path / "none")()["memory_mib"] == mib


def test_of_a_gpu_memory_is_told_and_what_it_does_where_the_driver_says(tmp_path, monkeypatch):
    gpu = SimpleNamespace(type="cuda")
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3 * MIB + 700_000 if device is gpu else 0)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 87 if device is gpu else 0)
    assert Usage(gpu, tmp_path, tmp_path / "none")() == {"gpu_memory_mib": 4, "gpu_utilization_percent": 87}

    def fail(device):
        raise RuntimeError("no library")

    monkeypatch.setattr(torch.cuda, "utilization", fail)
    assert Usage(gpu, tmp_path, tmp_path / "none")() == {"gpu_memory_mib": 4}
