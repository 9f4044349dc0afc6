import os

import pytest

from pruning_lit.system.processors import num_processors

MINE = len(os.sched_getaffinity(0))


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({}, MINE),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, MINE),
        ({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "640000000 100000\n"}, MINE),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "90000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, MINE),
    ],
)
def test_a_quota_counts_where_it_is_less_than_the_affinity(tmp_path, files, allowed):
    write(tmp_path, files)
    assert num_processors(tmp_path) == allowed


def test_a_quota_of_one_and_a_half_is_two_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "150000 100000\n"})
    assert num_processors(tmp_path) == 2
