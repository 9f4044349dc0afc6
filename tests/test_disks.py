"""Disks that are full or read-only: one sentence, no half-written file, and nothing that was finished is lost."""

import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from errno import ENOSPC, EROFS
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from safetensors import safe_open
from torch import nn

from pruning_lit import channels
from pruning_lit.callbacks import AtomicCheckpointIO
from pruning_lit.callbacks.event_files import EventFiles
from pruning_lit.command_line.resume import with_resume
from pruning_lit.data.cache import write_cache
from pruning_lit.reports.plots import save as save_figure
from pruning_lit.system.atomic import write_text
from pruning_lit.system.disk import quiet_threads
from pruning_lit.system.log_file import LogFile
from tests.commands import TINY, run_command, start
from tests.test_faults import assert_same_end, wait_for

pytestmark = pytest.mark.timeout(600)  # a run, another one and its continuation, on a machine that has other work
FULL, READ_ONLY = os.strerror(ENOSPC), os.strerror(EROFS)


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


def assert_one_sentence(code: int, printed: str, *parts: str) -> str:
    assert code == 1, printed[-3000:]
    assert "Traceback" not in printed, printed[-5000:]
    assert "Logging error" not in printed
    sentences = [line for line in printed.splitlines() if "[ERROR]" in line or line.startswith("error: ")]
    assert len(sentences) == 1, printed[-3000:]
    assert all(part in sentences[0] for part in parts), sentences
    return sentences[0]


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


# Full disks: what is written

BIG = 4 * 2**20


def write_figure(size: int, path: Path) -> None:
    figure = Figure()
    figure.add_subplot()
    save_figure(figure, path)


WRITERS: dict[str, Callable[[int, Path], object]] = {
    "report.md": lambda size, path: write_text(path, size * "x"),
    "widths.png": write_figure,
    "model.safetensors": lambda size, path: channels.save(nn.Linear(1, size // 8), path),
    "last.ckpt": lambda size, path: AtomicCheckpointIO().save_checkpoint({"weight": torch.rand(size // 4)}, path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("left", [0, 2**19])
def test_what_does_not_fit_on_the_disk_leaves_what_was_there(disk, name, left):
    path = disk / name
    WRITERS[name](64, path)
    before = path.read_bytes()
    fill(disk, left if name != "widths.png" else 0)
    with pytest.raises(OSError, match=re.escape(str(path))) as error:
        WRITERS[name](BIG, path)
    assert FULL in str(error.value)
    assert path.read_bytes() == before
    assert {each.name for each in disk.iterdir()} == {name, "ballast"}


def test_a_cache_that_does_not_fit_is_done_without(disk, caplog):
    path = disk / "images.safetensors"
    fill(disk, 2**19)
    write_cache(path, "digest", {"train": torch.zeros(BIG)})
    assert f"the cache '{path}' cannot be written" in caplog.text
    assert {each.name for each in disk.iterdir()} == {"ballast"}


def test_event_files_that_do_not_fit_name_their_folder_and_hide_no_other_failure(disk):
    logger = EventFiles(save_dir=disk, name="", version="tensorboard")
    logger.log_metrics({"loss": 1.0}, step=0)
    fill(disk)

    def log_on() -> None:
        for step in range(10_000):
            logger.log_metrics({"loss": 1.0}, step=step)
        logger.save()

    with quiet_threads(), pytest.raises(OSError, match=rf"{FULL}: '{disk}/tensorboard'"):
        log_on()
    logger.finalize("failed")


def test_a_log_that_does_not_fit_is_silent_and_goes_on_when_there_is_room(disk, capfd):
    file = LogFile(disk / "run.log", delay=True)
    log = logging.Logger("of a run")
    log.addHandler(file)
    log.error("first")
    fill(disk)
    for _ in range(100):
        log.error(100 * "lost ")
    file.flush()
    assert "".join(capfd.readouterr()) == ""
    make_room(disk)
    log.error("last")
    file.close()
    assert (disk / "run.log").read_text().startswith("first\n")
    assert (disk / "run.log").read_text().endswith("last\n")


def test_on_a_full_disk_a_run_is_not_continued_and_its_beginning_is_not_written_over(disk, cli):
    begun = disk / "run" / ".hydra" / "overrides.yaml"
    write_text(begun, "- seed=1\n")
    fill(disk)
    code, printed = cli(f"resume={disk / 'run'}")
    assert_one_sentence(code, printed, FULL, str(disk / "run"))
    assert begun.read_text() == "- seed=1\n"


def test_a_run_that_could_not_write_down_how_it_was_begun_is_not_continued(tmp_path):
    write_text(tmp_path / ".hydra" / "overrides.yaml", "")
    with pytest.raises(ValueError, match=r"overrides.yaml' does not list the overrides of a command: it is damaged"):
        with_resume([f"resume={tmp_path}"])


@pytest.mark.parametrize("left", [0, 2**12])
def test_on_a_full_disk_no_run_is_begun(disk, cli, left):
    fill(disk, left)
    assert_one_sentence(*cli(*NO_DATA, f"hydra.run.dir={disk / 'run'}"), "the folder for outputs", FULL)


# Folders that cannot be written to: refused before the data are looked at

NO_DATA = ("dataset=image_folder", "dataset.root=/there/is/no/such/folder")


@pytest.fixture
def read_only(disk) -> Path:
    """The same disk, with the folder of a run on it, read-only."""
    write_text(disk / "old" / ".hydra" / "overrides.yaml", "- seed=1\n")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    return disk


@pytest.mark.slow
def test_a_read_only_folder_for_outputs_is_refused_at_once(read_only, cli):
    for folder in (read_only / "run", read_only / "old"):
        told = assert_one_sentence(*cli(*NO_DATA, f"hydra.run.dir={folder}"), "the folder for outputs", READ_ONLY)
        assert str(folder) in told
        assert "hydra.run.dir=" in told


def test_a_read_only_folder_for_a_sweep_is_refused_at_once(read_only, cli):
    folder = read_only / "sweep"
    told = assert_one_sentence(*cli("-m", *NO_DATA, "seed=1,2", f"hydra.sweep.dir={folder}"), READ_ONLY)
    assert f"the folder for outputs '{folder}'" in told
    assert "hydra.sweep.dir=" in told


def test_a_run_in_a_read_only_folder_is_not_continued(read_only, cli):
    assert_one_sentence(*cli(f"resume={read_only / 'old'}"), f"'{read_only / 'old'}'", READ_ONLY)


@pytest.mark.at_once(2)
@pytest.mark.parametrize("below", ["", "/run"])
@pytest.mark.parametrize("setting", ["hydra.run.dir=", "hydra.sweep.dir="])
def test_a_file_in_the_place_of_a_folder_for_outputs_is_refused_at_once(tmp_path, cli, setting, below):
    file = tmp_path / "file"
    file.write_text("kept")
    sweep = ("-m", "seed=1,2") if "sweep" in setting else ()
    told = assert_one_sentence(*cli(*sweep, *NO_DATA, f"{setting}{file}{below}"))
    assert f"the folder for outputs '{file}{below}'" in told
    assert file.read_text() == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["hydra.run.dir=", "hydra.sweep.dir="])
def test_of_data_that_are_missing_the_folder_for_outputs_is_not_accused(tmp_path, cli, setting):
    sweep = ("-m", "seed=1,2") if "sweep" in setting else ()
    code, printed = cli(*sweep, *NO_DATA, f"{setting}{tmp_path}")
    assert code == 1
    assert "/there/is/no/such/folder" in printed
    assert "the folder for outputs" not in printed


# Full disks: a run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seen", "left", "refused"),
    [
        ("phases/1-train/last.ckpt", 2**16, r"phases/1-train/\w+.ckpt"),
        ("phases/2-finetune/finished.json", 185_000, r"(widths.png|curves.png|report.md|report.html|report.json)"),
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
