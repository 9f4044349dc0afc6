"""From the command line to the report: limits are set with the budget, planned, and told."""

import pytest
import torch

from tests.conftest import TINY, read_report


def test_limits_are_set_on_the_command_line_and_the_report_tells_what_came_of_them(tmp_path, cli):
    run = tmp_path / "run"
    code, printed = cli(
        *TINY,
        "phases=[finetune]",
        "finetune.callbacks.prune.epochs=[0,1]",
        "sparsity.round_to=6",
        "sparsity.min_share=0.1",
        "sparsity.overrides={layer1.*: 0.1}",
        f"hydra.run.dir={run}",
    )
    assert code == 0, printed
    checkpoint = torch.load(run / "phases/1-finetune/last.ckpt", weights_only=True)
    cuts = checkpoint["callbacks"]["ScheduledPruning"]["cuts"]
    assert [cut["planned"] for cut in cuts] == [{"macs": cut["macs"], "params": cut["params"]} for cut in cuts]
    report = read_report(run)
    widths = {group["name"]: group["kept"] for group in report["groups"]}
    assert widths["layer1.0.conv1"] == 16  # 14 should stay, 18 would be a multiple
    assert report["after"]["macs"] == cuts[-1]["planned"]["macs"] <= report["before"]["macs"] / 2
    assert report["notes"] == cuts[-1]["notes"]
    assert any("multiple of 6" in note and "`layer1.0.conv1`" in note for note in report["notes"])
    document = (run / "report.md").read_text()
    assert all(note in document for note in report["notes"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("sparsity.round_to=0", "sparsity.round_to must be a whole number of at least 1, got 0"),
        ("sparsity.overrides={layer9.*: 0.2}", "sparsity.overrides: no group is called 'layer9.*'"),
        ("sparsity.overrides={layer1.*: 2}", "the rate of 'layer1.*', 2 lies outside [0, 1)"),
        ("sparsity.min_share=0.9", "sparsity.reduction=0.5 cannot be met"),
    ],
)
def test_a_limit_that_cannot_hold_is_refused_in_one_sentence(tmp_path, cli, override, told):
    code, printed = cli(*TINY, override, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 1
    assert told in printed
    assert "Traceback" not in printed
