"""Further terms of the training loss: added, told by name, and asked for from the command line's config."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from pruning_lit.phases import Constant, Training
from pruning_lit.tasks import Classification

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders


class Size:
    """Half the square of all weights: its gradient is the weights themselves."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, net: nn.Module, batch: tuple[Tensor, Tensor], module: Training) -> Tensor:
        assert module.outputs.shape == (len(batch[1]), 3)
        assert torch.equal(module.outputs, net(batch[0]))
        return self.strength * sum(each.square().sum() for each in net.parameters()) / 2


class Batches(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        random = torch.Generator().manual_seed(0)
        return DataLoader(
            [(torch.randn(8, 4, generator=random), torch.arange(8) % 3) for _ in range(3)], batch_size=None
        )


def fit(terms: dict, weight_decay: float = 0.0) -> tuple[Training, dict[str, float]]:
    torch.manual_seed(0)
    module = Training(
        nn.Linear(4, 3), Classification(3), 2, partial(SGD, lr=0.1, weight_decay=weight_decay), Constant(), terms=terms
    )
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=Batches())
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_term_is_trained_on_like_the_loss_of_the_task():
    with_term, told = fit({"size": Size(0.3)})
    decayed, alone = fit({}, weight_decay=0.3)  # the same gradient by the optimizer
    for one, other in zip(with_term.net.parameters(), decayed.net.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert told["train/loss"] == pytest.approx(told["train/cross_entropy"] + told["train/size"])
    assert told["train/cross_entropy"] == pytest.approx(alone["train/loss"])
    assert told["train/size"] > 0
    assert "train/cross_entropy" not in alone  # one term is the loss


def test_a_term_may_not_be_called_like_one_of_the_task():
    with pytest.raises(ValueError, match=r"terms: the loss of the task has \['cross_entropy'\] already"):
        fit({"cross_entropy": Size(1.0)})
