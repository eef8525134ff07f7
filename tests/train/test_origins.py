"""What a run is made with: on machines with and without a GPU, from made-up files where this one has none."""

import dataclasses

import pytest
import torch

from tests.stores import config as config
from tsp.train import origins

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "name"),
    [("processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t: fpu\n", "AMD EPYC 9654"),
     ("processor\t: 0\nCPU implementer\t: 0x41\nHardware\t: BCM2835\n", "BCM2835"),
     ("processor : 0\ncpu : POWER9\nmachine : PowerNV\n", "PowerNV"), ("", None), ("\xff:\n", None)],
)  # fmt: skip
def test_processors_are_named_as_their_architecture_does(tmp_path, monkeypatch, text, name):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(origins, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(origins.platform, "machine", lambda: "aarch64")
    assert origins.machine(CPU)["cpu"] == (name or "aarch64")


def test_a_machine_that_tells_nothing_is_no_error(tmp_path, monkeypatch):
    for file in ("_CPU_INFO", "_OS_RELEASE"):
        monkeypatch.setattr(origins, file, tmp_path / "missing")
    for name in ("machine", "release", "system"):
        monkeypatch.setattr(origins.platform, name, lambda: "")
    monkeypatch.delenv("TSP_IMAGE", raising=False)
    assert origins.machine(CPU) == {}


def test_a_pod_records_image_and_system(tmp_path, monkeypatch):
    (tmp_path / "os-release").write_text('ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    monkeypatch.setattr(origins, "_OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setenv("TSP_IMAGE", "registry/tsp@sha256:" + "ab" * 32)
    found = origins.machine(CPU)
    assert found["system"] == "Debian GNU/Linux 13 (trixie)"
    assert found["image"] == "registry/tsp@sha256:" + "ab" * 32


def test_a_gpu_and_its_libraries_are_recorded(monkeypatch):
    properties = type("Properties", (), {"name": "NVIDIA H200", "total_memory": 139 << 30, "major": 9, "minor": 0})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 28, 3))
    monkeypatch.setattr(origins, "driver_version", lambda: "580.82.07")
    assert origins.machine(torch.device("cuda", 0))["gpu"] == "NVIDIA H200 (compute capability 9.0)"
    found = origins.versions()
    assert {key: found[key] for key in ("cuda", "cudnn", "nccl", "driver")} == {
        "cuda": "13.0", "cudnn": "91002", "nccl": "2.28.3", "driver": "580.82.07"
    }  # fmt: skip


def test_without_a_gpu_its_libraries_are_left_out_and_the_others_are_there(monkeypatch):
    def broken():
        raise RuntimeError("no CUDA here")

    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.backends.cudnn, "version", broken)
    monkeypatch.setattr(torch.cuda.nccl, "version", broken)
    monkeypatch.setattr(origins, "driver_version", lambda: None)
    found = origins.versions()
    assert found.keys() & {"cuda", "cudnn", "nccl", "driver"} == set()
    assert found["torch"] == torch.__version__
    assert {"tspctl", "commit", "python", "torchvision", "av", "h5py", "numpy"} <= found.keys()


def test_ranks_that_differ_are_told_apart():
    machines = [{"gpu": "H100", "kernel": "6.1"}, {"gpu": "V100", "kernel": "6.1"}, {"gpu": "H100", "kernel": "6.1"}]
    assert origins.of_all_ranks(machines) == {"gpu": "H100 (ranks 0, 2); V100 (rank 1)", "kernel": "6.1"}
    assert origins.of_all_ranks([{"gpu": "H100"}, {}]) == {"gpu": "H100 (rank 0); none (rank 1)"}


def test_a_file_that_cannot_be_read_costs_its_own_digest(config, tmp_path, caplog):
    for name in origins.tables_of(config)[1:]:
        (tmp_path / name).write_text(name)
    there = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(tmp_path)))
    found = origins.table_digests(there)
    assert list(found) == origins.tables_of(config)[1:]
    assert f"no digest of {config.data.train.csv}" in caplog.text
