"""Freed memory that stays with the process, seen by the page faults of passes."""

import platform
import resource

import pytest
import torch

from pruning_lit.measure.heap import freed_memory_kept
from tests.commands import in_own_process


def faults(passes: int) -> int:
    """Page faults of passes that make three tensors of 40 MB, more than glibc keeps by itself, and free them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(passes):
        torch.ones(3, 10_000_000).mul(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
@in_own_process
def test_passes_do_not_ask_for_pages_that_an_earlier_one_had():
    with freed_memory_kept():
        faults(2)
        kept = faults(6)
    faults(1)
    assert kept < faults(6) / 2  # what is freed afterwards is given back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
@in_own_process
def test_memory_is_given_back_after_an_error():
    with pytest.raises(RuntimeError, match="broken"), freed_memory_kept():
        raise RuntimeError("broken")
    faults(1)
    assert faults(1) >= 240_000_000 // (2 << 20)  # in pages of 2 MB at most
