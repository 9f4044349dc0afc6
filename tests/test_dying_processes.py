"""Images that cannot be read in the middle of training, and processes that die there."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pruning_lit.data.sampler import EpochBatches
from tests.commands import EVERY, TINY, TWO, environment, run_command, start
from tests.test_faults import assert_same_end, wait_for

pytestmark = pytest.mark.timeout(600)  # a run, another one and its continuation, on a machine that has other work
POPEN = (*TWO, "trainer=ddp", "trainer.devices=2", "trainer.sync_batchnorm=true")  # two commands, not two forks
ONE_BY_ONE = (EVERY, "trainer.limit_train_batches=1.0", "dataset.batch_size=4")
MINUTE = 60


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """48 JPEG files in two classes, and as many to test with."""
    root, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for folder in (root / part / name for part in ("train", "val") for name in ("cats", "dogs")):
        folder.mkdir(parents=True)
        for number in range(24):
            noise = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number:02}.jpg")
    return root


@pytest.fixture
def damaged(images):
    """Cut off the end of a file when called; it is mended when called again, and at the end."""
    whole: dict[Path, bytes] = {}

    def cut_or_mend(path: Path, left: int = 400) -> None:
        if path in whole:
            path.write_bytes(whole.pop(path))
        else:
            whole[path] = path.read_bytes()
            path.write_bytes(whole[path][:left])

    yield cut_or_mend
    for path in [*whole]:
        cut_or_mend(path)


def from_disk(images: Path) -> tuple[str, ...]:
    return (*TINY, "dataset=imagenet", f"dataset.root={images}", "dataset.image_size=16", *ONE_BY_ONE)


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("from_disk") / "run"
    run_command(*from_disk(images), "dataset.num_workers=0", f"hydra.run.dir={folder}")
    return folder


def assert_told(process: subprocess.Popen, sentence: str, code: int = 1) -> None:
    """All processes end, one of them with the sentence: the pipe is open until the last one is gone."""
    printed, _ = process.communicate(timeout=MINUTE)
    assert process.returncode == code, printed[-3000:]
    assert "Traceback" not in printed, printed[-5000:]
    assert len(re.findall(sentence, printed)) == 1, printed[-3000:]
    assert printed.count("[ERROR]") == 1, printed[-3000:]


def children(process: subprocess.Popen) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


# ImageData


@pytest.mark.slow
@pytest.mark.parametrize(("num_workers", "left"), [(0, 400), (1, 0)])
def test_a_image_that_is_damaged_while_it_is_trained_on_is_named(
    images, damaged, finished, tmp_path, num_workers, left
):
    folder, image = tmp_path / "run", images / "train" / "dogs" / "07.jpg"
    process = start(*from_disk(images), f"dataset.num_workers={num_workers}", f"hydra.run.dir={folder}")
    wait_for(process, folder / "phases" / "1-train" / "last.ckpt")
    damaged(image, left)
    assert_told(process, f"'{image}' is not a readable image .*: replace or remove it.* resume={folder}\n")
    damaged(image)
    run_command(f"resume={folder}")
    assert_same_end(folder, finished)


@pytest.mark.slow
def test_images_in_memory_are_missed_only_when_the_run_is_continued(images, damaged, tmp_path):
    folder, image = tmp_path / "run", images / "train" / "dogs" / "07.jpg"
    in_memory = (*TINY, "dataset=image_folder", f"dataset.root={images}", "dataset.pad=2", *ONE_BY_ONE)
    process = start(*in_memory, f"hydra.run.dir={folder}")
    wait_for(process, folder / "phases" / "1-train" / "last.ckpt")
    damaged(image)
    wait_for(process, folder / "phases" / "2-finetune" / "last.ckpt")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=MINUTE)
    assert process.returncode == 0
    sentence = f"'{image}' is not a readable image .*: replace or remove it.* resume={folder}\n"
    assert_told(start(f"resume={folder}"), sentence)
    damaged(image)
    run_command(f"resume={folder}")
    run_command(*in_memory, f"hydra.run.dir={tmp_path / 'whole'}")
    assert_same_end(folder, tmp_path / "whole")


# Workers


@pytest.mark.slow
def test_where_a_worker_of_the_data_dies_the_run_ends_and_nothing_is_lost(images, finished, tmp_path):
    folder = tmp_path / "run"
    process = start(*from_disk(images), "dataset.num_workers=1", f"hydra.run.dir={folder}")
    wait_for(process, folder / "phases" / "1-train" / "last.ckpt")
    [worker] = children(process)
    os.kill(worker, signal.SIGKILL)
    assert_told(process, rf"a process that prepares images has died.* resume={folder}\n")
    run_command(f"resume={folder}")
    assert_same_end(folder, finished)


# Ranks


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_of_two_commands_dies_the_other_ends_and_nothing_is_lost(finished_by_two, tmp_path, rank):
    folder = tmp_path / "run"
    process = start(*TINY, *POPEN, f"hydra.run.dir={folder}", EVERY)
    wait_for(process, folder / "phases" / "1-train" / "last.ckpt")
    [other] = children(process)
    os.kill([process.pid, other][rank], signal.SIGKILL)
    if rank == 0:
        assert_told(process, f"the process that has started this one has died.* resume={folder}\n", -signal.SIGKILL)
    else:
        assert_told(process, f"process {other} of this run was ended by SIGKILL.* resume={folder}\n")
    run_command(f"resume={folder}", "trainer=ddp_fork", "trainer.accelerator=cpu")  # which comes to the same
    assert_same_end(folder, finished_by_two)


@pytest.mark.slow
def test_an_image_that_only_one_process_reads_ends_all_of_them(images, damaged, tmp_path):
    first = next(iter(EpochBatches(48, 4, seed=1, stream=1, rank=1, world_size=2).batches(0)))[0]
    files = sorted((images / "train").glob("*/*.jpg"))
    damaged(files[first[0]])
    settings = (*from_disk(images), *TWO, "dataset.batch_size=4", "dataset.num_workers=1")
    process = start(*settings, f"hydra.run.dir={tmp_path / 'run'}")
    assert_told(process, f"'{files[first[0]]}' is not a readable image")


@pytest.mark.slow
def test_a_process_that_hangs_when_another_has_died_is_ended_with_a_sentence(tmp_path):
    """As in a collective operation of a GPU; Lightning would kill it without a word."""
    program = """
        import subprocess, time
        from lightning_fabric.plugins.environments import LightningEnvironment
        from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
        from pytorch_lightning.strategies.launchers.subprocess_script import _launch_process_observer
        from pruning_lit.system import processes

        processes.GRACE = 7  # longer than Lightning's five seconds
        launcher = _SubprocessScriptLauncher(LightningEnvironment(), 3, 1)
        with processes.ending_together(launcher, lambda loss: print(loss, flush=True)):
            launcher.procs = [subprocess.Popen(["sh", "-c", "kill -9 $$"]), subprocess.Popen(["sleep", "100"])]
            _launch_process_observer(launcher.procs)
            time.sleep(100)
    """
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"process \d+ of this run was ended by SIGKILL, and the others with it\n", done.stdout)
    assert time.monotonic() - begun < MINUTE
