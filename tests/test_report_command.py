"""``python -m pruning_lit.report``: summaries of any runs, at any time."""

import csv
import re
import subprocess
import sys

import pytest

from pruning_lit.report import main
from pruning_lit.reports import Figures, Report, write_report
from tests.bad_inputs import sentences
from tests.commands import environment

CHOICES = {"arch": "vgg", "dataset": "digits", "method": "chip", "sparsity": "half"}


def run_of(folder, seed, accuracy):
    write_report(
        Report(
            "e",
            seed,
            Figures(100, 100, {"accuracy": 0.9}, 4.0),
            Figures(60, 50, {"accuracy": accuracy}, 3.0),
            choices=CHOICES,
        ),
        folder,
    )


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["report", *words])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr().out
        return (1, printed + code) if isinstance(code, str) else (code, printed)

    return run


@pytest.mark.slow
def test_a_sweep_is_summarised_in_its_own_folder(call, tmp_path):
    for seed, accuracy in enumerate((0.80, 0.84)):
        run_of(tmp_path / "sweep" / str(seed), seed, accuracy)
    code, printed = call("path=sweep")
    assert code == 0
    assert "82.00 ± 2.83" in printed  # by hand: |80 - 84| over the root of 2
    assert "summary: sweep/summary.md" in printed
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {
        "0", "1", "summary.csv", "summary.md", "summary.html", "pareto.png", "pareto.svg",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("words", [["path=a,b"], ["path=[a,b]"], ["path=a,b", "out=both"]])
def test_several_folders_are_summarised_in_one_of_their_own(call, tmp_path, words):
    run_of(tmp_path / "a" / "0", 1, 0.8)
    run_of(tmp_path / "b", 2, 0.8)
    code, printed = call(*words)
    assert code == 0
    place = re.search(r"summary: (.*)/summary\.md", printed).group(1)
    assert place == "both" if "out=both" in words else re.fullmatch(r"outputs/report/[\d-]+_[\d-]+", place)
    with (tmp_path / place / "summary.csv").open() as file:
        assert [row["job"] for row in csv.DictReader(file)] == ["a/0", "b"]
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"report.html", "report.json", "report.md"}


@pytest.mark.slow
def test_a_single_run_keeps_its_folder(call, tmp_path):
    run_of(tmp_path / "run", 1, 0.8)
    code, printed = call("path=run")
    assert code == 0
    assert "summary: outputs/report/" in printed
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"report.html", "report.json", "report.md"}


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "a value has to be given: path="),
        (["path="], "path= names the folder of a sweep, or one with runs in it, or several: path=first,second"),
        (["path=nowhere"], "no folder 'nowhere'"),
        (["path=empty"], "no runs in 'empty'"),
        (["path=run,empty"], "no runs in 'empty'"),
        (["path=run", "out=run"], "'run' is the folder of a run, and keeps its own pictures"),
        (["path=run", "out=a,b"], "out=a,b has several values"),
        (["paths=run"], "there is no setting paths in what has been chosen; perhaps path"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, tmp_path, words, told):
    run_of(tmp_path / "run", 1, 0.8)
    (tmp_path / "empty").mkdir()
    code, printed = call(*words)
    assert code == 1
    (sentence,) = sentences(printed, tmp_path)
    assert told in sentence


@pytest.mark.slow
def test_help_tells_how_it_is_used(call):
    code, printed = call("--help")
    assert code == 0
    assert "path=" in printed
    assert "out=" in printed


@pytest.mark.slow
def test_the_package_can_be_run(tmp_path):
    run_of(tmp_path / "0", 1, 0.8)
    done = subprocess.run(
        [sys.executable, "-m", "pruning_lit.report", f"path={tmp_path}"],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert (tmp_path / "summary.md").is_file()
