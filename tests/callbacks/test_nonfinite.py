"""Losses and gradients that are no numbers."""

import copy
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from pruning_lit.callbacks import NonFinite
from pruning_lit.phases import Constant, Training
from pruning_lit.tasks import Classification


def batches(broken: tuple[int, ...] = ()) -> list[tuple[Tensor, Tensor]]:
    """Six batches of noise; in some of them one pixel is no number."""
    random = torch.Generator().manual_seed(0)
    made = [(torch.randn(4, 3, 4, 4, generator=random), torch.arange(4) % 2) for _ in range(6)]
    for number in broken:
        made[number][0][0, 0, 0, 0] = torch.nan
    return made


class ImageData(pl.LightningDataModule):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def train_dataloader(self):
        return DataLoader(self.made, batch_size=None)


def fit(made, policy: str = "skip", accumulate: int = 1) -> Training:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    module = Training(
        net,
        Classification(2),
        1,
        lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
        Constant(),
    )
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, accumulate_grad_batches=accumulate, callbacks=[NonFinite(policy, "train")],
    )  # fmt: skip
    trainer.fit(module, datamodule=ImageData(made))
    return module


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("broken", [(1,), (0, 3), (5,)])
def test_a_step_that_is_left_out_leaves_nothing_behind(broken):
    """Weights, momentum, weight decay and batch-norm statistics are those of a training without these batches."""
    found = fit(batches(broken))
    without = fit([each for number, each in enumerate(batches()) if number not in broken])
    for name, tensor in without.net.state_dict().items():
        assert torch.equal(found.net.state_dict()[name], tensor), name
    assert not found.step_left_out or 5 in broken


@pytest.mark.filterwarnings("ignore:.*")
def test_of_accumulated_batches_one_is_enough_to_leave_the_step_out():
    found, without = fit(batches((3,)), accumulate=2), fit([*batches()[:2], *batches()[4:]], accumulate=2)
    assert torch.equal(found.net[0].weight, without.net[0].weight)
    assert torch.equal(found.net[1].running_mean, without.net[1].running_mean)


@pytest.mark.filterwarnings("ignore:.*")
def test_a_training_of_numbers_is_not_changed():
    torch.manual_seed(0)
    stopped = fit(batches(), policy="stop").net.state_dict()
    skipped = copy.deepcopy(fit(batches(), policy="skip").net.state_dict())
    assert all(torch.equal(stopped[name], tensor) for name, tensor in skipped.items())


@pytest.mark.filterwarnings("ignore:.*")
def test_the_error_says_phase_epoch_and_step():
    with pytest.raises(
        ValueError, match=r"phase train, epoch 1/1, after 2 optimizer steps: the loss is no number; begin again"
    ):
        fit(batches((2,)), policy="stop")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_step_is_left_out_on_all_processes_where_one_has_no_numbers(elsewhere):
    """This one has some, and its batch norms are put back with those of the others."""
    net, callback = nn.BatchNorm1d(2), NonFinite("skip", "train")
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(reduce_boolean_decision=lambda here, all: here or elsewhere),
        precision_plugin=None, current_epoch=0, max_epochs=1, global_step=2,
    )  # fmt: skip
    callback.on_train_batch_start(trainer, net, None, 0)
    loss = net(torch.randn(4, 2)).square().sum()
    callback.on_before_backward(trainer, net, loss)
    loss.backward()
    callback.on_before_optimizer_step(trainer, net, None)
    assert net.step_left_out == elsewhere
    assert bool(net.running_mean.any()) != elsewhere


def test_policies_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"on_nonfinite must be one of \['stop', 'skip'\], got 'go'"):
        NonFinite("go", "train")
