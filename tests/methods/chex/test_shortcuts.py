"""Shortcuts of explored networks through the command line: narrow with scatters, or whole with zeros."""

from pathlib import Path

import pytest
import torch

from pruning_lit.channels import ChannelScatter, cost, load, trace
from pruning_lit.channels.artefact import read
from tests.commands import run_command
from tests.conftest import read_report

SHORT = (
    "method=chex", "arch=resnet8", "arch.shortcut=option_b", "arch.norm_scale=0.5", "callbacks=quiet",
    "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "trainer.limit_train_batches=2",
    "trainer.log_every_n_steps=1", "dataset.batch_size=16", "latency.batch_size=1", "latency.repeats=1",
    "explore.epochs=2", "explore.schedule.warmup_epochs=1", "explore.callbacks.stages.interval=1",
    "explore.callbacks.stages.last_stage=1",
)  # fmt: skip
EXAMPLE = torch.zeros(1, 3, 32, 32)
SHORTCUTS = ["layer2.0.shortcut", "layer3.0.shortcut"]


def product(folder: Path) -> Path:
    return folder / "pruned" / "model.safetensors"


def trained(folder: Path) -> dict:
    return torch.load(folder / "phases" / "1-explore" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """The same training with narrow shortcuts in the product, and with whole ones."""
    folders = {way: tmp_path_factory.mktemp("chex_shortcuts") / way for way in ("narrow", "whole")}
    for way, folder in folders.items():
        run_command(*SHORT, f"remove_scatters={str(way == 'whole').lower()}", f"hydra.run.dir={folder}")
    return folders


@pytest.mark.slow
def test_shortcuts_that_are_whole_in_the_result_are_trained_as_narrow_ones(runs):
    narrow, whole = (trained(folder) for folder in runs.values())
    assert narrow.keys() == whole.keys()
    assert [key for key, tensor in narrow.items() if not torch.equal(tensor, whole[key])] == []
    assert sum(key.endswith(".scatter.source") for key in whole) == len(SHORTCUTS)


@pytest.mark.slow
def test_the_network_with_whole_shortcuts_has_no_scatter_and_computes_the_same_with_more_macs(runs):
    narrow, whole = (load(product(folder)) for folder in runs.values())
    added = [f"{path}.bn.scatter" for path in SHORTCUTS]
    own = {path for path, module in whole.named_modules() if isinstance(module, ChannelScatter)}
    assert own == {path for path, module in narrow.named_modules() if isinstance(module, ChannelScatter)} - {*added}
    assert not [key for key in read(product(runs["whole"]))[1] if ".scatter." in key]
    assert [whole.get_submodule(path).conv.out_channels for path in SHORTCUTS] == [32, 64]
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(whole(images), narrow(images))
    reports = {way: read_report(folder) for way, folder in runs.items()}
    assert reports["whole"]["after"]["metrics"]["accuracy"] == reports["narrow"]["after"]["metrics"]["accuracy"]
    counted = {"narrow": cost(trace(narrow, EXAMPLE)), "whole": cost(trace(whole, EXAMPLE))}
    for way, report in reports.items():
        assert (report["after"]["macs"], report["after"]["params"]) == (counted[way].macs, counted[way].params)
    assert counted["narrow"].macs < counted["whole"].macs < reports["whole"]["before"]["macs"]
    for key in ("macs", "params", "metrics"):
        assert reports["whole"]["before"][key] == reports["narrow"]["before"][key]


@pytest.mark.slow
def test_the_report_tells_what_whole_shortcuts_cost(runs):
    narrow, whole = (read_report(folder) for folder in runs.values())
    macs = whole["after"]["macs"]
    (note,) = [note for note in whole["notes"] if note not in narrow["notes"]]
    assert note.startswith("layer2.0.shortcut.bn, layer3.0.shortcut.bn have their full width again")
    assert f"the network costs {macs:,} MACs, {macs - narrow['after']['macs']:,} more than with narrow" in note
    assert note in (runs["whole"] / "report.md").read_text()


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("channel_scatter=full", "channel_scatter must be true or false, got 'full'"),
        ("remove_scatters=1", "remove_scatters must be true or false, got 1"),
        ("channel_scatter=masked", "has another name now: channel_scatter=true remove_scatters=true"),
    ],
)
def test_another_way_of_treating_shortcuts_is_refused_in_one_sentence(cli, tmp_path, word, told):
    code, printed = cli(*SHORT, word, f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert told in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "phases").exists()
