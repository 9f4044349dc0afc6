"""From the command line to the report: limits are set with the budget, planned, and told."""

import pytest
import torch

from tests.commands import TINY
from tests.conftest import read_report


@pytest.mark.slow
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
    report = read_report(run)
    widths = {group["name"]: group["kept"] for group in report["groups"]}
    assert widths["layer1.0.conv1"] == 16  # 14 should stay, 18 would be a multiple
    assert report["after"]["macs"] == cuts[-1]["macs"] <= report["before"]["macs"] / 2
    assert report["notes"] == [f"Cut {n} of 2: {note}" for n, cut in enumerate(cuts, 1) for note in cut["notes"]]
    assert any("multiple of 6" in note and "`layer1.0.conv1`" in note for note in report["notes"])
    document = (run / "report.md").read_text()
    assert all(note in document for note in report["notes"])


@pytest.mark.at_once(1)
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


NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.pair, self.tail, self.last = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 8, 3), nn.Conv2d(8, 8, 3)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x):
        left, right = self.pair(x).chunk(2, dim=1)
        return self.classifier(self.last(self.tail(left * right)).mean((2, 3)))
"""


@pytest.mark.slow
def test_the_report_counts_output_channels_and_tells_what_was_excluded(tmp_path, cli, monkeypatch):
    (tmp_path / "mine_in_halves.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    own = [word for word in TINY if not word.startswith("arch")] + [
        "arch._target_=mine_in_halves.Net",
        "allow_targets=[mine_in_halves]",
    ]
    settings = ["phases=[finetune]", "sparsity=uniform", "sparsity.rate=0.25", "sparsity.exclude=[tail]"]
    code, printed = cli(*own, *settings, f"hydra.run.dir={run}")
    assert code == 0, printed
    report, document = read_report(run), (run / "report.md").read_text()
    pair = report["groups"][0]
    assert (pair["name"], pair["size"], pair["kept"], len(pair["positions"])) == ("pair", 32, 24, 12)
    assert "| `pair` | 32 | 24 | 75 % |" in document
    assert "- `tail`: excluded by sparsity.exclude" in document
    checkpoint = torch.load(run / "phases/1-finetune/last.ckpt", weights_only=True)
    (cut,) = checkpoint["callbacks"]["ScheduledPruning"]["cuts"]
    assert [group["size"] for group in cut["groups"]] == [32, 8, 8, 10]
    assert report["best"]["path"] == "phases/1-finetune/best.ckpt"
    assert (run / report["best"]["path"]).is_file()
    assert "(`phases/1-finetune/best.ckpt`)" in document
