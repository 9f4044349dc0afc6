"""Disks that are full or read-only: one sentence, no half-written file, and nothing that was finished is lost."""

import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from pruning_lit.atomic import write_text
from pruning_lit.callbacks import AtomicCheckpointIO
from pruning_lit.channels import save
from pruning_lit.data.cache import write_cache
from pruning_lit.event_files import EventFiles
from pruning_lit.log_file import LogFile
from pruning_lit.resume import with_resume
from tests.conftest import TINY, run_command, start
from tests.test_faults import assert_same_end, wait_for

FULL = os.strerror(28)  # ENOSPC
READ_ONLY = os.strerror(30)  # EROFS


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 16 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, left: int = 0) -> None:
    """Leave so many bytes of the disk."""
    state = os.statvfs(disk)
    with (disk / "ballast").open("ab") as file:
        file.write(bytes(max(0, state.f_bavail * state.f_frsize - left)))


def make_room(disk: Path) -> None:
    (disk / "ballast").unlink()


def assert_one_sentence(code: int, printed: str, *parts: str) -> None:
    assert code == 1, printed[-3000:]
    assert "Traceback" not in printed, printed[-5000:]
    assert "Logging error" not in printed
    sentences = [line for line in printed.splitlines() if "[ERROR]" in line or line.startswith("error: ")]
    assert len(sentences) == 1, printed[-3000:]
    assert all(part in sentences[0] for part in parts), sentences


def assert_whole(folder: Path) -> None:
    """Whatever has its final name can be read."""
    for path in folder.rglob("*.ckpt"):
        assert "state_dict" in torch.load(path, weights_only=True, map_location="cpu")
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert len([file.get_tensor(name) for name in file.keys()]) > 0  # noqa: SIM118 - not a dict
    assert [
        path
        for path in folder.rglob("*")
        if path.suffix in (".csv", ".md", ".json", ".png") and not path.stat().st_size
    ] == []
    assert [path.name for path in folder.rglob("*.part")] == []


# Full disks: a run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """One uninterrupted run."""
    folder = tmp_path_factory.mktemp("disks") / "run"
    run_command(*TINY, f"hydra.run.dir={folder}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seen", "left", "refused"),
    [
        ("phases/1-train/last.ckpt", 0, "metrics.csv"),
        ("phases/1-train/last.ckpt", 2**16, r"phases/1-train/\w+.ckpt"),
        ("phases/1-train/finished.json", 0, ""),  # event files, or whatever comes first
        ("phases/2-finetune/finished.json", 0, "pruned/model.safetensors"),
        ("phases/2-finetune/finished.json", 160_000, r"(widths.png|report.md|report.json)"),
    ],
)
def test_a_run_whose_disk_fills_up_ends_in_a_sentence_and_goes_on_when_there_is_room(
    finished, disk, seen, left, refused
):
    folder = disk / "run"
    process = start(*TINY, f"hydra.run.dir={folder}")
    wait_for(process, folder / seen)
    process.send_signal(signal.SIGSTOP)
    fill(disk, left)
    process.send_signal(signal.SIGCONT)
    printed, _ = process.communicate(timeout=60)
    assert_one_sentence(process.returncode, printed, FULL, f"resume={folder}")
    assert re.search(f"{re.escape(str(folder))}/{refused}", printed), printed[-2000:]
    assert_whole(folder)
    assert not (folder / "report.json").exists()
    make_room(disk)
    run_command(f"resume={folder}")
    assert_same_end(folder, finished)
