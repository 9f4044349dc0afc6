"""Layers that do not learn in the first epochs: weights, averages, optimizer, cuts, resumption, several processes."""

import time
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from pruning_lit.callbacks import Freezing
from pruning_lit.phases import Constant, Training
from pruning_lit.tasks import Classification
from tests.commands import EVERY, TINY, run_command, start

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders


class Batches(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        random = torch.Generator().manual_seed(0)
        batches = [(torch.randn(8, 3, 6, 6, generator=random), torch.arange(8) % 3) for _ in range(2)]
        return DataLoader(batches, batch_size=None)


class Watch(pl.Callback):
    """The state dict behind every epoch."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.states.append({name: each.clone() for name, each in pl_module.net.state_dict().items()})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


def fit(net: nn.Module, freeze: dict | None, epochs: int = 3) -> list[dict[str, torch.Tensor]]:
    """States of the network: at the beginning, and behind every epoch."""
    watch, first = Watch(), {name: each.clone() for name, each in net.state_dict().items()}
    optimizer = partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
    module = Training(net, Classification(3), epochs, optimizer, Constant(), freeze=freeze)
    pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[watch],
    ).fit(module, datamodule=Batches())  # fmt: skip
    return [first, *watch.states]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, each in before.items() if not torch.equal(each, after[name])}


def test_a_frozen_layer_keeps_its_weights_and_averages_until_its_epoch():
    states = fit(network(), {"layers": ["0"], "epochs": 2})
    inside = {name for name in states[0] if name.startswith("0.")}
    assert [changed(*pair) & inside for pair in pairwise(states[:3])] == [set(), set()]
    assert changed(states[0], states[1]) == set(states[0]) - inside
    assert changed(states[2], states[3]) == set(states[0])


def test_without_a_number_of_epochs_it_is_frozen_to_the_end_and_learns_in_the_next_phase():
    net = network()
    states = fit(net, {"layers": ["*.0.weight", "1.1"]})
    frozen = {"0.0.weight", "1.0.weight", "1.1.weight", "1.1.bias", *(f"1.1.running_{n}" for n in ("mean", "var"))}
    assert set(states[0]) - changed(states[0], states[-1]) == {*frozen, "1.1.num_batches_tracked"}
    assert all(each.requires_grad for each in net.parameters())
    states = fit(net, None, epochs=1)
    assert changed(*states) == set(states[0])


def test_what_is_frozen_already_stays_so():
    net = network()
    net[1].requires_grad_(False)
    fit(net, {"layers": ["0"], "epochs": 1})
    assert [each.requires_grad for each in net[1].parameters()] == [False] * 4
    assert all(each.requires_grad for each in net[0].parameters())


def test_resumed_behind_its_epochs_nothing_is_frozen():
    net, callback = network(), Freezing(["0"], epochs=2)
    module = SimpleNamespace(net=net, training=True)
    trainer = SimpleNamespace(current_epoch=2, strategy=None, is_global_zero=True)
    callback.setup(trainer, module, "fit")
    assert not any(each.requires_grad for each in net[0].parameters())
    callback.on_train_batch_start(trainer, module, None, 5)
    assert all(each.requires_grad for each in net.parameters())
    assert net[0][1].training


@pytest.mark.parametrize(
    ("freeze", "sentence"),
    [
        ({"layers": "0"}, r"freeze\.layers is a list of patterns of names such as \[conv1, layer1\], got '0'"),
        ({"layers": []}, r"freeze\.layers is a list of patterns"),
        (
            {"layers": ["0"], "epochs": 0},
            r"freeze\.epochs must be a whole number of at least 1, or null .*, got 0",
        ),
        ({"epochs": 3}, r"freeze has layers, and epochs where not all, as .*; got \{'epochs': 3\}"),
        (["0"], r"freeze has layers, and epochs where not all"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(freeze, sentence):
    with pytest.raises(ValueError, match=sentence):
        fit(network(), freeze)


def test_layers_that_are_not_there_and_all_layers_are_refused():
    with pytest.raises(ValueError, match=r"freeze\.layers: nothing in the network is called 'conv1'; some are \['0\.0"):
        Freezing(["0", "conv1"]).check(network())
    with pytest.raises(ValueError, match=r"freeze\.layers=\['\*'\] freezes all of the network"):
        Freezing(["*"]).check(network())


FROZEN = "finetune.freeze={layers: [conv1, bn1, layer1], epochs: 1}"
RUN = (*TINY, "phases=[finetune]", "finetune.optimizer.lr=0.001", FROZEN)


@pytest.mark.slow
def test_two_processes_end_like_one_and_a_cut_goes_through_frozen_layers(tmp_path):
    run_command(*RUN, "dataset.batch_size=16", f"hydra.run.dir={tmp_path / 'one'}")
    run_command(*RUN, "trainer=ddp_fork", "dataset.batch_size=8", f"hydra.run.dir={tmp_path / 'two'}")
    one, two = (load_file(tmp_path / name / "pruned/model.safetensors") for name in ("one", "two"))
    assert len(one["layer1.0.conv1.weight"]) < 16
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_is_killed_while_layers_are_frozen_ends_as_one_that_is_not(tmp_path):
    words = (*RUN, "finetune.epochs=3", "finetune.freeze.epochs=2", EVERY)
    run_command(*words, f"hydra.run.dir={tmp_path / 'whole'}")
    process = start(*words, f"hydra.run.dir={tmp_path / 'killed'}")
    while not list((tmp_path / "killed").glob("phases/*/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait(60)
    run_command(f"resume={tmp_path / 'killed'}")
    whole, killed = (load_file(tmp_path / name / "pruned/model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(each, killed[name]) for name, each in whole.items())
