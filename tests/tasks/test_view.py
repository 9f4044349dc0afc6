"""A task whose view is a part of the network: only that part is traced, scored, cut and told of."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import TensorDataset

from pruning_lit.callbacks import ScheduledPruning
from pruning_lit.criteria import Taylor
from pruning_lit.data import Datasets
from pruning_lit.phases import Constant, Training
from pruning_lit.sparsity import Uniform
from pruning_lit.tasks import Classification

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders


class Behind(nn.Module):
    """A network with work on Python values behind its logits, which no trace could follow."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 1.0, 1.0]) * self.inner(x)[:, [int(str(each)) for each in (0, 1, 2)]]


class OfTheInner(Classification):
    def view(self, net: nn.Module) -> nn.Module:
        return net.inner if isinstance(net, Behind) else net


@pytest.mark.parametrize("execution", ["narrow", "mask"])
def test_only_the_view_is_pruned(execution):
    random = torch.Generator().manual_seed(1)
    parts = [TensorDataset(torch.randn(n, 3, 8, 8, generator=random), torch.arange(n) % 3) for n in (24, 12)]
    data = Datasets(*parts, batch_size=8, num_classes=3)
    data.setup()
    net, pruning = Behind(), ScheduledPruning(Taylor(num_images=16), Uniform(0.5), epochs=[0, 1], execution=execution)
    module = Training(net, OfTheInner(3), 2, partial(SGD, lr=0.1), Constant(), callbacks={"prune": pruning})
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert [list(cut.kept) for cut in pruning.cuts] == [["0"]] * 2  # the name within the view
    assert [len(cut.kept["0"]) for cut in pruning.cuts] == [6, 4]
    assert all(cut.error < 1e-5 for cut in pruning.cuts)
    if execution == "mask":
        pruning.finish(module.view, data.example, pruning.state_dict())
    assert net.inner[0].weight.shape == (4, 3, 3, 3)
    assert net(data.example).shape == (1, 3)
