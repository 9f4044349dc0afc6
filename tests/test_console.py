"""What a run says, into a file and beside a bar."""

import re

import pytest

from tests.commands import run_command
from tests.console_lines import TABLE, foreign_lines

QUICK = ("debug=quick", "arch=resnet8", "latency.batch_size=1", "latency.repeats=1", "latency.max_seconds=0.1")
TIME = r"[\d.]+ s"
FIGURES = rf"loss \d\.\d\d, validation accuracy \d+\.\d\d %, {TIME}"
#: What is said in a run of two phases, in order.
EXPECTED = [
    r"folder of this run: .*/run",
    r"threads of torch: 1, .*; trainer\.threads=… sets their number",
    r"phase train: 1 epoch, images per step: 128 \(64 in each of 2 processes\)",
    rf"epoch 1/1: {FIGURES}, {TIME} of training left in the run at this pace",
    r"phase finetune: 2 epochs, images per step: 128 \(64 in each of 2 processes\)",
    r"scoring 7 groups of channels on 64 images",
    r"cut 1 of 1, before epoch 1/2: [\d,]+ of 12,239,488 MACs stay \(.*\), .* parameters stay \(.*\)",
    r"cut 1 of 1, before epoch 1/2: Every layer was to lose the same share of its channels \(sparsity\.scope=layer\)\.",
    rf"epoch 1/2: {FIGURES}, {TIME} left in this phase",
    rf"epoch 2/2: {FIGURES}",
    r"report and network in .*",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Everything printed by a run of two processes whose output is no terminal, and its log."""
    folder = tmp_path_factory.mktemp("console") / "run"
    words = (*QUICK, "method=chip", "finetune.epochs=2", "trainer=ddp_fork", f"hydra.run.dir={folder}")
    return run_command(*words), (folder / "run.log").read_text(encoding="utf-8")


def messages(log: str) -> list[str]:
    return re.findall(r"^\[.*?\] - (.*)$", TABLE.sub("", log), re.MULTILINE)


def test_a_run_prints_nothing_but_its_own_lines(run):
    printed, _ = run
    assert foreign_lines(printed) == []


def test_every_phase_cut_and_epoch_has_a_line_and_scoring_too(run):
    printed, _ = run
    told = messages(printed)
    assert len(told) == len(EXPECTED), told
    for line, pattern in zip(told, EXPECTED, strict=True):
        assert re.fullmatch(pattern, line), line


def test_the_log_has_all_that_was_printed_and_the_table(run):
    printed, log = run
    assert [line for line in messages(log) if "(seed 1)" not in line] == messages(printed)
    (table,) = TABLE.findall(printed)
    assert table in log
    assert "┃" in table


@pytest.mark.slow
def test_beside_a_bar_epochs_have_their_lines_in_the_log_alone(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("pruning_lit.runs.phase_runner.can_show_bars", lambda: True)
    code, printed = cli(*QUICK, "method=dense", f"hydra.run.dir={tmp_path}")
    assert code == 0, printed
    (bar,) = re.findall(r"^epoch 1/1 +━+ 3/3 .*$", printed, re.MULTILINE)
    assert "v_num" not in printed
    assert "loss" in bar
    assert not re.search(r"- epoch 1/1: ", printed)
    assert re.search(rf"- epoch 1/1: {FIGURES}$", (tmp_path / "run.log").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.slow
def test_quiet_means_lines_in_the_place_of_a_bar(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("pruning_lit.runs.phase_runner.can_show_bars", lambda: True)
    code, printed = cli(*QUICK, "method=dense", "callbacks=quiet", f"hydra.run.dir={tmp_path}")
    assert code == 0, printed
    assert "3/3" not in printed
    assert re.search(rf"- epoch 1/1: {FIGURES}$", printed, re.MULTILINE)
