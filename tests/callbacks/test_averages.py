"""Lightning's own averaging callbacks follow a cut in the middle of a fit, and a fit that is resumed after it."""

import copy
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pruning_lit.callbacks.optimizer_state import migrate_averages, migrate_optimizers
from pruning_lit.channels import adopt_on_load, mask, narrow, trace, verify
from pruning_lit.models import cifar_resnet

EXAMPLE = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
KEPT = {
    "layer1.0.conv1": [0, 3, 7],
    "layer1.0.conv2": [1, 2, 5, 6, 15],
    "layer2.0.conv2": list(range(8, 32)),
    "layer3.0.conv1": list(range(0, 64, 3)),
    "layer3.0.conv2": list(range(0, 64, 2)),
}


class Phase(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = cifar_resnet(8).double()
        mask(self.net, trace(self.net, EXAMPLE), KEPT)
        adopt_on_load(self.net)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        images, target = batch
        return F.cross_entropy(self.net(images), target)

    def validation_step(self, batch: list[Tensor]) -> None:
        assert torch.isfinite(self.training_step(batch))  # with the averaged weights

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


class Cut(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            moves = narrow(pl_module.net, trace(pl_module.net, EXAMPLE), KEPT)
            migrate_optimizers(trainer.optimizers, moves)
            migrate_averages(trainer.callbacks, moves)


def loader() -> DataLoader:
    random = torch.Generator().manual_seed(1)
    images = torch.randn(12, 3, 8, 8, generator=random, dtype=torch.float64)
    return DataLoader(TensorDataset(images, torch.arange(12) % 10), batch_size=6)


def fit(epochs: int, *callbacks: pl.Callback, resume: Path | None = None, keep: Path | None = None) -> nn.Module:
    phase = Phase()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    if keep:
        trainer.callbacks.append(Save(keep))
    trainer.fit(phase, loader(), loader(), ckpt_path=resume, weights_only=True)
    return phase.net


class Save(pl.Callback):
    """At the end of every epoch, as checkpointing does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def averaging(kind: str) -> pl.Callback:
    if kind == "exponential":
        return EMAWeightAveraging(decay=0.5)
    return StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=1)


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("kind", ["exponential", "stochastic"])
def test_the_average_of_a_fit_with_a_cut_is_the_one_without_it(kind, epoch):
    masked = fit(4, averaging(kind))
    narrowed = fit(4, Cut(epoch), averaging(kind))
    assert narrowed.layer1[0].conv1.out_channels == 3
    assert verify(narrowed, masked, torch.randn(4, 3, 8, 8, dtype=torch.float64)) < 1e-9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*")
def test_a_fit_with_averages_is_resumed_after_the_cut(tmp_path):
    uninterrupted = fit(4, Cut(1), averaging("exponential"))
    fit(3, Cut(1), averaging("exponential"), keep=tmp_path / "last.ckpt")
    resumed = fit(4, Cut(1), averaging("exponential"), resume=tmp_path / "last.ckpt")
    for name, tensor in uninterrupted.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_copies_of_a_network_adopt_widths_into_themselves():
    net = cifar_resnet(8)
    adopt_on_load(net)
    other = copy.deepcopy(net)
    narrowed = copy.deepcopy(net)
    narrow(narrowed, trace(net, EXAMPLE.float()), KEPT)
    other.load_state_dict(narrowed.state_dict())
    assert repr(other) == repr(narrowed)
    assert net.layer1[0].conv1.out_channels == 16
