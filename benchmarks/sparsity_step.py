"""What the penalty of sparsity training costs: time of its training step over that of a plain one.

    python benchmarks/sparsity_step.py            # CPU or, with --accelerator gpu, the first GPU

Both phases run in one process, in turns, through Lightning's Trainer, on the same images and with equal networks. A
step is timed from one batch's start to the next one's. The last column is the time spent in the penalty alone.
"""

import argparse
import copy
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruning_lit.criteria import BatchNormScale
from pruning_lit.methods.network_slimming import SparsityTraining
from pruning_lit.methods.network_slimming.phase import add_l1_subgradient
from pruning_lit.models import cifar_densenet, preresnet, vgg_bn
from pruning_lit.phases import Constant, Training
from pruning_lit.sparsity import Global
from pruning_lit.tasks import Classification

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # with the images in a batch
    "vgg16_bn_slimming": (partial(vgg_bn, 16, classifier="linear", bias=False), 64),
    "preresnet56": (partial(preresnet, 56), 64),
    "preresnet164": (partial(preresnet, 164), 32),
    "densenet40": (partial(cifar_densenet, 40), 32),
}


class Batches(pl.LightningDataModule):
    """The same batch again and again."""

    def __init__(self, size: int, count: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        batch = torch.randn(size, 3, 32, 32, generator=random), torch.arange(size) % 10
        self.batches, self.example = [batch] * count, batch[0][:1]

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]


class Steps(pl.Callback):
    """Seconds between the starts of consecutive batches, without the first ones."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.starts.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.starts[1:], self.starts[2:], strict=False)]


def phase(net: nn.Module, strength: float | None) -> Training:
    optimizer = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=1e-4)
    common = {"net": net, "task": Classification(10), "epochs": 1, "optimizer": optimizer}
    common |= {"schedule": Constant()}
    if strength is None:
        return Training(**common)
    sparsity = Global(0.4, rule="slimming")
    return SparsityTraining(l1_strength=strength, criterion=BatchNormScale(), sparsity=sparsity, **common)


def step_seconds(module: Training, data: Batches, accelerator: str) -> list[float]:
    steps = Steps()
    pl.Trainer(
        max_epochs=1, accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[steps],
    ).fit(module, datamodule=data)  # fmt: skip
    return steps.seconds


def pull_seconds(module: SparsityTraining, repeats: int = 200) -> float:
    """Of one penalty, when all scales have gradients."""
    scales: list[tuple[nn.Parameter, Tensor | None]] = module.scales
    for scale, _ in scales:
        scale.grad = torch.zeros_like(scale)
    start = time.perf_counter()
    for _ in range(repeats):
        add_l1_subgradient(scales, 1e-4)
    if scales[0][0].is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--rounds", type=int, default=6, help="in each of which both phases run once")
    parser.add_argument("--steps", type=int, default=6, help="of each phase in a round")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    print("| network | batch norms | batch | plain step | sparsity step | ratio | the penalty alone |")
    print("|---|---|---|---|---|---|---|")
    for name, (build, size) in NETWORKS.items():
        torch.manual_seed(0)
        net, data = build(), Batches(size, arguments.steps + 2)
        plain, sparse = [], []
        for _ in range(arguments.rounds):
            plain += step_seconds(phase(copy.deepcopy(net), None), data, arguments.accelerator)
            module = phase(copy.deepcopy(net), 1e-4)
            sparse += step_seconds(module, data, arguments.accelerator)
        assert isinstance(module, SparsityTraining)
        one, other = statistics.median(plain), statistics.median(sparse)
        alone, norms = pull_seconds(module), len(module.scales)
        print(
            f"| {name} | {norms} | {size} | {1e3 * one:.1f} ms | {1e3 * other:.1f} ms | {other / one:.3f}x "
            f"| {1e3 * alone:.2f} ms ({100 * alone / one:.2f} %) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
