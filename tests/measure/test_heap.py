"""Freed memory that stays with the process while it is asked for, seen by page faults and resident memory."""

import os
import platform
import resource
from pathlib import Path
from statistics import median

import pytest
import torch

from pruning_lit.measure.heap import freed_memory_kept
from tests.commands import in_own_process

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
LARGE = 240_000_000  # bytes that a pass makes and frees


def faults() -> int:
    """Page faults of a pass that makes two tensors of 120 MB, more than glibc keeps by itself, and frees them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(3, 10_000_000).mul(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@in_own_process
def test_passes_do_not_ask_for_pages_that_an_earlier_one_had():
    fresh = [faults() for _ in range(5)]
    with freed_memory_kept():
        kept = [faults() for _ in range(20)]
        before = resident()
    # the first passes settle where in the heap tensors lie; a pass may be met by Python's own allocations
    assert median(kept[10:]) < median(fresh) / 10
    assert resident() < before - LARGE * 0.8  # it is given back afterwards


@in_own_process
def test_memory_is_given_back_after_an_error():
    def broken() -> None:
        nonlocal before
        with freed_memory_kept():
            faults()
            before = resident()
            raise RuntimeError("broken")

    before = 0
    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert resident() < before - LARGE * 0.8
