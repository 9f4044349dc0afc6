"""Sweeps whose jobs run elsewhere: side by side, by submitit, each in several processes."""

import csv
import signal

import pytest
from hydra import compose, initialize_config_dir

from pruning_lit.command_line.configs import CONF
from tests.commands import EVERY, TINY, run_command, start
from tests.conftest import read_report
from tests.test_faults import wait_for

SHORT = (
    "-m", *(word for word in TINY if not word.startswith("criterion.")), "train.epochs=1", "finetune.epochs=1",
    "finetune.schedule.warmup_epochs=0",
)  # fmt: skip
SWEEP = (*SHORT, "method=magnitude,random")


def statuses(folder):
    with (folder / "summary.csv").open(newline="") as file:
        return [(row["method"], row["status"]) for row in csv.DictReader(file)]


def commands(folder):
    return [read_report(folder / job)["command"] for job in "01"]


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """The same jobs, one after the other in one process."""
    folder = tmp_path_factory.mktemp("one_by_one") / "sweep"
    run_command(*SWEEP, f"hydra.sweep.dir={folder}")
    return folder


@pytest.mark.slow
def test_submitit_leads_to_the_same_results(one_by_one, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    folder = tmp_path / "sweep"
    run_command(*SWEEP, "hydra/launcher=submitit_local", f"hydra.sweep.dir={folder}")
    assert statuses(folder) == [("magnitude", "finished"), ("random", "finished")]
    for job in "01":
        told, expected = read_report(folder / job), read_report(one_by_one / job)
        assert told["after"]["metrics"]["accuracy"] == expected["after"]["metrics"]["accuracy"]
        assert told["groups"] == expected["groups"]
    assert commands(folder) == commands(one_by_one)  # each tells how to repeat that job, whoever has started it
    assert [told["phases"][0].get("taken_over_from") for told in map(read_report, (folder / "0", folder / "1"))].count(
        None
    ) == 1  # dense training was done once, by the one that came first
    assert "method=magnitude" in commands(folder)[0]


@pytest.mark.slow
def test_in_a_sweep_of_several_processes_each_job_is_run_once(tmp_path):
    """Lightning repeats the command for every process of `ddp`; the command of a sweep would be the whole sweep."""
    folder = tmp_path / "sweep"
    printed = run_command(
        *SWEEP, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "dataset.batch_size=8",
        "phases=[finetune]", f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    assert statuses(folder) == [("magnitude", "finished"), ("random", "finished")]
    assert printed.count("images per step: 16 (8 in each of 2 processes)") == 2
    assert {path.name for path in (folder / "1").glob("*.log")} <= {"run.log", "train_ddp_process_1.log"}
    assert not list(folder.glob("[2-9]"))


@pytest.mark.slow
def test_a_failing_job_in_a_process_of_its_own_is_listed_with_its_sentence(tmp_path, cli):
    folder = tmp_path / "sweep"
    code, printed = cli(
        *SHORT, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "sparsity.reduction=0.999",
        "method=magnitude", f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    assert code == 1
    assert "Traceback" not in printed
    with (folder / "summary.csv").open(newline="") as file:
        assert ["cannot be met" in row["error"] for row in csv.DictReader(file)] == [True]


def test_a_job_of_slurm_has_the_processes_of_its_trainer():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["hydra/launcher=slurm", "trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "name=try"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        launcher = compose("config", overrides=words, return_hydra_config=True).hydra.launcher
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (2, 4, 4)


def test_without_the_launchers_the_sentence_says_how_to_get_them(cli):
    code, printed = cli("-m", "hydra/launcher=no_such_launcher", "seed=1,2")
    assert code == 1
    assert 'pip install "pruning_lit[sweeps]"' in printed


@pytest.mark.slow
def test_jobs_side_by_side_leave_when_their_sweep_is_asked_to(tmp_path):
    """The signal comes to the launcher, which trains nothing itself."""
    folder = tmp_path / "sweep"
    longer = ("trainer.limit_train_batches=40", "phases=[finetune]", "seed=1,2", "method=magnitude")
    process = start(*SHORT, *longer, "hydra/launcher=parallel", EVERY, f"hydra.sweep.dir={folder}")
    for job in "01":
        wait_for(process, folder / job / "phases/1-finetune/last.ckpt")
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed[-3000:]
    assert f"resume={folder}" in printed
    assert "Traceback" not in printed
    assert not (folder / "0/report.json").exists(), "asked too late to prove anything"
    run_command(f"resume={folder}", "checkpoint.every_n_steps=null", "hydra/launcher=basic")
    assert statuses(folder) == [("magnitude", "finished")] * 2
