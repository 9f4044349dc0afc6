"""Several cuts share the way to the budget, and the report counts in the numbering of the dense network."""

from types import SimpleNamespace

import pytest
import torch

from pruning_lit.callbacks import ScheduledPruning
from pruning_lit.callbacks.scheduled_pruning import share_notes, warn_if_alike
from pruning_lit.criteria import Random
from pruning_lit.sparsity import Uniform
from tests.commands import TINY
from tests.conftest import read_report

DENSE_MACS = 12_239_488  # ResNet-8


def test_two_cuts_share_the_way_to_the_target(tmp_path, cli):
    code, printed = cli(
        *TINY, "phases=[finetune]", "finetune.callbacks.prune.epochs=[0,1]", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert code == 0, printed
    checkpoint = torch.load(tmp_path / "run/phases/1-finetune/last.ckpt", weights_only=True)
    cuts = checkpoint["callbacks"]["ScheduledPruning"]["cuts"]
    assert [cut["epoch"] for cut in cuts] == [0, 1]
    assert 0.72 * DENSE_MACS < cuts[0]["macs"] <= 0.75 * DENSE_MACS
    assert 0.47 * DENSE_MACS < cuts[1]["macs"] <= 0.5 * DENSE_MACS
    for group in read_report(tmp_path / "run")["groups"]:
        name = group["name"]
        if name in cuts[0]["kept"]:
            assert group["positions"] == [cuts[0]["kept"][name][position] for position in cuts[1]["kept"][name]]


@pytest.mark.parametrize("epochs", [[], [1, 0], [2, 2], [-1]])
def test_a_schedule_that_is_none_is_refused(epochs):
    with pytest.raises(ValueError, match="ascending"):
        ScheduledPruning(Random(), Uniform(0.5), epochs)


@pytest.mark.parametrize(("largest", "warned"), [(1.05, True), (2.0, False)])
def test_scores_that_hardly_differ_are_warned_of(caplog, largest, warned):
    warn_if_alike({"one": torch.tensor([1.0, largest]), "other": torch.tensor([1.01])})
    assert ("hardly differ (1 to 1.05)" in caplog.text) == warned


def test_shares_of_channels_are_told_where_there_are_any():
    nothing = SimpleNamespace(sizes={}, widths={}, multiplicities={})
    assert share_notes(nothing, 0, 0) == []
    assert share_notes(nothing, 8, 8) == ["Of all 8 batch-norm channels 0 went (0.00 %)."]
    plan = SimpleNamespace(sizes={"a": 6, "b": 2}, widths={"a": 4, "b": 2}, multiplicities={"a": 1, "b": 1})
    assert share_notes(plan, 0, 0) == ["Of 8 channels that can be pruned 2 went (25.00 %)."]
    plan.multiplicities["a"] = 4  # which leave together
    assert share_notes(plan, 0, 0) == ["Of 26 channels that can be pruned 8 went (30.77 %)."]
