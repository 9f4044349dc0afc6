import pytest

from pruning_lit.reports import Figures, Report, write_report
from pruning_lit.sweeps.failure import forget_failure, note_failure, noted_failure
from pruning_lit.sweeps.finished import finished_with, is_finished, note_finished

SETTINGS = {"seed": 1, "train": {"epochs": 2, "milestones": (1, 2)}}


def test_a_job_is_finished_for_the_same_settings_alone(tmp_path):
    write_report(Report("e", 1, Figures(2, 2), Figures(1, 1)), tmp_path)
    assert not is_finished(tmp_path, SETTINGS)
    note_finished(tmp_path, SETTINGS, ["seed=1"])
    assert is_finished(tmp_path, SETTINGS)
    assert finished_with(tmp_path) == ["seed=1"]
    assert not is_finished(tmp_path, SETTINGS | {"seed": 2})


@pytest.mark.parametrize("lost", ["report.json", ".hydra/finished.json"])
def test_a_job_without_its_report_or_its_settings_is_not_finished(tmp_path, lost):
    write_report(Report("e", 1, Figures(2, 2), Figures(1, 1)), tmp_path)
    note_finished(tmp_path, SETTINGS, [])
    (tmp_path / lost).unlink()
    assert not is_finished(tmp_path, SETTINGS)


def test_damaged_settings_are_those_of_no_job(tmp_path):
    write_report(Report("e", 1, Figures(2, 2), Figures(1, 1)), tmp_path)
    note_finished(tmp_path, SETTINGS, [])
    (tmp_path / ".hydra" / "finished.json").write_text("{")
    assert not is_finished(tmp_path, SETTINGS)
    assert finished_with(tmp_path) is None


def test_a_failure_is_told_until_it_is_forgotten(tmp_path):
    assert noted_failure(tmp_path) is None
    note_failure(tmp_path, "the rate is a share, got 7")
    assert noted_failure(tmp_path) == "the rate is a share, got 7"
    forget_failure(tmp_path)
    forget_failure(tmp_path)
    assert noted_failure(tmp_path) is None


def test_a_failure_that_cannot_be_written_down_hides_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    note_failure(tmp_path / "file", "the disk is full")  # no folder: the system refuses
    assert noted_failure(tmp_path / "file") is None
