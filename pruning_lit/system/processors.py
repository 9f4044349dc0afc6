"""Processors that this process may use: its affinity, and what its container allows."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def num_processors(root: Path = Path("/")) -> int:
    """Number of processors that this process may use, at least 1: its affinity, or its quota where that is less.

    Args:
        root: of the file system that tells of control groups.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Processor time per time that each control group around this process may use, in either version of them."""
    group, groups = "", root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        number, _, path = line.split(":", 2)
        group = path.strip("/") if number == "0" else group
    inner = groups / group
    for folder in (inner, *inner.parents):
        if folder == groups or groups in folder.parents:
            yield from _share(*(" ".join(_lines(folder / "cpu.max")).split()))
    for folder in (groups / "cpu", groups / "cpu,cpuacct"):
        yield from _share(*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us"))


def _share(*words: str) -> list[float]:
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return []  # there is no such file, or it says max, or -1
    return [int(words[0]) / int(words[1])]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
