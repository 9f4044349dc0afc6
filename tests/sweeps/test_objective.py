"""What a job returns to a sweeper that optimises."""

import shutil

import pytest

from pruning_lit.records.metrics_table import write_lines
from pruning_lit.records.primary import Primary
from pruning_lit.reports.record import Report
from pruning_lit.sweeps.objective import TRIES_ALL, require_objective, returned
from tests.places import ROOT

LOGGED = ["train/loss", "val/loss", "val/accuracy"]
LINES = [
    ["train", "0", "3", "val/accuracy", "0.9"],
    ["finetune", "0", "6", "val/accuracy", "0.5"],
    ["finetune", "1", "9", "val/accuracy", "0.75"],
    ["finetune", "1", "9", "val/loss", "0.3"],
]


@pytest.fixture
def job(tmp_path):
    """The folder of a finished job, with a report of the repository's."""
    shutil.copy(ROOT / "results/cifar10_jpeg/sweep/0/report.json", tmp_path)
    write_lines(tmp_path / "metrics.csv", LINES)
    return tmp_path


def test_a_figure_is_that_of_the_last_epoch_of_the_last_phase(job):
    assert returned("val/accuracy", job) == 0.75
    assert returned("macs", job) == Report.read(job).after.macs
    assert returned(["val/loss", "params"], job) == [0.3, Report.read(job).after.params]
    assert returned(None, job) is None


@pytest.mark.parametrize("name", ["accuracy", "test/accuracy", "val/accuracy_top5", "metrics"])
def test_no_figure_of_the_test_part_has_a_name(job, name):
    with pytest.raises(ValueError, match=rf"^objective={name}: the run has no such figure; there are val/accuracy"):
        returned(name, job)
    with pytest.raises(ValueError, match=rf"^objective={name}: a run has no such figure; there are train/loss"):
        require_objective(name, LOGGED, Primary("accuracy"), TRIES_ALL, [])


def test_a_sweeper_that_optimises_needs_an_objective_and_hydras_own_does_not():
    require_objective(None, LOGGED, Primary("accuracy"), TRIES_ALL, [])
    with pytest.raises(ValueError, match=r"add objective=val/accuracy, or another of train/loss"):
        require_objective(None, LOGGED, Primary("accuracy"), "hydra_plugins.optuna", ["minimize"])


@pytest.mark.parametrize(
    ("objective", "directions", "told"),
    [
        ("val/accuracy", ["minimize"], "objective=val/accuracy is to be maximized"),
        ("val/loss", ["maximize"], "objective=val/loss is to be minimized"),
        (["val/accuracy", "macs"], ["maximize", "maximize"], "objective=macs is to be minimized"),
        (["val/accuracy", "macs"], ["maximize"], "objective has 2 figures and hydra.sweeper.direction 1"),
    ],
)
def test_a_sweeper_that_goes_the_wrong_way_is_refused(objective, directions, told):
    with pytest.raises(ValueError, match=told):
        require_objective(objective, LOGGED, Primary("accuracy"), "hydra_plugins.optuna", directions)


def test_several_objectives_with_their_directions_are_taken():
    directions = ["maximize", "minimize"]
    require_objective(["val/accuracy", "macs"], LOGGED, Primary("accuracy"), "hydra_plugins.optuna", directions)
    error = Primary("error", higher_is_better=False)
    require_objective("val/error", ["val/error"], error, "hydra_plugins.optuna", ["minimize"])


def test_a_sweeper_that_is_not_installed_is_answered_with_its_package(cli):
    code, printed = cli("-m", "hydra/sweeper=ax", "seed=1,2")
    assert code == 1
    assert "there is no sweeper called 'ax'; it comes by pip install hydra-ax-sweeper" in printed
