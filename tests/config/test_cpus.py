"""How many CPUs a process may use, by made-up control groups."""

import os

import pytest

from tsp.config import cpus
from tsp.config.cpus import usable_cpus
from tsp.errors import ConfigError

CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def cgroups(tmp_path):
    """Lays out control groups; returns how many CPUs a process of ``own`` may use."""

    def usable(files, own="0::/"):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        (tmp_path / "own").write_text(own + "\n")
        return usable_cpus(tmp_path / "cgroup", tmp_path / "own")

    return usable


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", 8),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("250000 100000", 3),
        ("100000000 100000", 8),
        ("100000 0", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_cpus_are_those_of_the_containers_quota(cgroups, eight_cores, text, expected):
    assert cgroups({"cpu.max": text}) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"user.slice/job/cpu.max": "300000 100000"}, 3),
        ({"user.slice/job/cpu.max": "max 100000", "user.slice/cpu.max": "200000 100000"}, 2),
        ({"user.slice/job/cpu.max": "400000 100000", "user.slice/cpu.max": "200000 100000"}, 2),
        ({"other.slice/cpu.max": "100000 100000"}, 8),
    ],
)
def test_the_smallest_quota_around_a_process_counts(cgroups, eight_cores, files, expected):
    assert cgroups(files, own="0::/user.slice/job") == expected


def test_the_name_of_a_control_group_may_hold_a_colon(cgroups, eight_cores):
    assert cgroups({"pod.slice:cri:1a/cpu.max": "300000 100000"}, own="0::/pod.slice:cri:1a") == 3


def test_a_container_that_sees_its_nodes_name_of_the_group_reads_the_mount(cgroups, eight_cores):
    assert cgroups({"cpu.max": "200000 100000"}, own="0::/kubepods/pod1/abc") == 2


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("100000", 1), ("350000", 4)])
def test_cpus_are_those_of_an_older_kernels_quota(cgroups, eight_cores, quota, expected):
    files = {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000"}
    assert cgroups(files, own="4:cpu,cpuacct:/kubepods") == expected


@pytest.mark.parametrize(
    ("own", "expected"), [("4:cpu,cpuacct:/user.slice/job", 2), ("4:cpu:/user.slice", 3), ("4:cpuset:/user.slice", 8)]
)
def test_quotas_around_a_process_count_on_an_older_kernel_too(cgroups, eight_cores, own, expected):
    files = {}
    for group, quota in (("", "-1"), ("user.slice/", "300000"), ("user.slice/job/", "150000")):
        files[f"cpu/{group}cpu.cfs_quota_us"], files[f"cpu/{group}cpu.cfs_period_us"] = quota, "100000"
    assert cgroups(files, own=f"12:cpuset:/\n{own}") == expected


def test_without_control_groups_it_is_the_affinity_mask(tmp_path):
    assert usable_cpus(tmp_path / "none", tmp_path / "none") == CORES


@pytest.mark.parametrize(
    ("quota", "share", "expected"),
    [
        ("max 100000", "5", 5),
        ("max 100000", None, 8),
        ("max 100000", "64", 8),
        ("200000 100000", "5", 2),
        ("50000 100000", "1", 1),
        ("max 100000", "0", 1),
        ("max 100000", "", 8),
        ("max 100000", " 4 ", 4),
        ("max 100000", "2.5", 2),
        ("max 100000", "0.5", 1),
    ],
)
def test_a_rank_counts_on_its_pods_request_and_on_no_more_than_it_may_use(
    cgroups, eight_cores, monkeypatch, quota, share, expected
):
    usable = cgroups({"cpu.max": quota})
    monkeypatch.setattr(cpus, "usable_cpus", lambda: usable)
    assert cpus.rank_cpus({} if share is None else {"TSP_CPUS": share}) == expected


@pytest.mark.parametrize("share", ["some", "-3", "²", "500m", "1e3", "nan", "0x4", "4,5"])
def test_a_share_that_is_no_number_is_refused_by_the_variables_name(share):
    with pytest.raises(ConfigError, match=f"TSP_CPUS must be a number of CPUs, got '{share}'"):
        cpus.rank_cpus({"TSP_CPUS": share})


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_an_older_kernels_quota_is_found_whatever_its_folder_is_called(cgroups, eight_cores, mount):
    files = {f"{mount}/docker/cpu.cfs_quota_us": "150000", f"{mount}/docker/cpu.cfs_period_us": "100000"}
    assert cgroups(files, own="4:cpuacct,cpu:/docker") == 2


@pytest.mark.parametrize(
    ("of_rank", "workers"), [(0.5, 1), (1, 1), (1.5, 1), (2, 1), (2.9, 1), (3, 2), (5, 4), (9, 8), (96, 8)]
)
def test_one_cpu_is_the_loops_the_others_are_the_data_workers_up_to_eight(of_rank, workers):
    assert cpus.auto_workers(of_rank) == workers
