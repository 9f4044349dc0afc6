"""A training step of a detector: ours over a plain PyTorch loop; and that of an explored network over the dense one.

    python benchmarks/detection_step.py

The first table: `phases.Training` on `tasks.Detection` or `InstanceSegmentation`, through Lightning's Trainer with the
callbacks of no run, against a loop of a dozen lines on the same torchvision detector: equal weights, the same batch,
the same optimizer. Both run in one process, in turns; a step is timed from one batch's start to the next one's. The
second table: the plain loop on the dense network and on one of which half of the channels of every group of the
backbone are dormant, as CHEX leaves them between two stages, in turns.
"""

import argparse
import copy
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruning_lit.channels import cost, narrow, trace
from pruning_lit.criteria import Magnitude, Scoring
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.models import maskrcnn_small, ssd300_resnet50, ssd_small, torchvision_detector
from pruning_lit.phases import Constant, Training
from pruning_lit.sparsity import Uniform
from pruning_lit.tasks import Detection, InstanceSegmentation

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


@dataclass
class Case:
    """A detector, and the batches it is trained on."""

    build: Callable[[], nn.Module]
    images: int
    size: int
    classes: int = 5
    masks: bool = False


FASTER = partial(
    torchvision_detector, "fasterrcnn_resnet50_fpn", num_classes=5, norm="batch", min_size=256, max_size=256
)
CASES = {
    "ssd_small": Case(ssd_small, 32, 64),
    "ssd300_resnet50": Case(partial(ssd300_resnet50, 5), 2, 300),
    "maskrcnn_small": Case(maskrcnn_small, 4, 128, masks=True),
    "fasterrcnn_resnet50_fpn, 256 pixels": Case(FASTER, 1, 256),
}


def batch_of(case: Case) -> Batch:
    """Noise with three boxes on every image."""
    random = torch.Generator().manual_seed(0)
    images, targets = [], []
    for _ in range(case.images):
        images.append(torch.rand(3, case.size, case.size, generator=random))
        corner = torch.rand(3, 2, generator=random) * case.size / 2
        extent = (0.2 + 0.3 * torch.rand(3, 2, generator=random)) * case.size
        boxes = torch.cat([corner, corner + extent], 1)
        target = {"boxes": boxes, "labels": torch.tensor([1, 2, 3]), "image_id": torch.tensor(len(images))}
        if case.masks:
            pixels = torch.arange(case.size)
            inside = [(pixels >= boxes[:, i, None]) & (pixels < boxes[:, i + 2, None]) for i in (0, 1)]
            target["masks"] = (inside[1][:, :, None] & inside[0][:, None]).to(torch.uint8)
        targets.append(target)
    return images, targets


class Batches(pl.LightningDataModule):
    """The same batch again and again."""

    def __init__(self, batch: Batch, count: int) -> None:
        super().__init__()
        self.batches = [batch] * count

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]


class Steps(pl.Callback):
    """Seconds between the starts of consecutive batches, without the first ones."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts.append(time.perf_counter())


def between(starts: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(starts[1:])]


OPTIMIZER = partial(torch.optim.SGD, lr=1e-4, momentum=0.9, weight_decay=5e-4)


def our_seconds(net: nn.Module, case: Case, batch: Batch, count: int) -> list[float]:
    task = (InstanceSegmentation if case.masks else Detection)(case.classes)
    module, steps = Training(net, task, 1, OPTIMIZER, Constant()), Steps()
    pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[steps],
    ).fit(module, datamodule=Batches(batch, count))  # fmt: skip
    return between(steps.starts)


def plain_seconds(net: nn.Module, batch: Batch, count: int) -> list[float]:
    net.train()
    optimizer, starts = OPTIMIZER(net.parameters()), []
    for images, targets in [batch] * count:
        starts.append(time.perf_counter())
        loss = sum(net(images, targets).values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    return between(starts)


def halved(net: nn.Module) -> tuple[nn.Module, float]:
    """A copy of which half of the channels of every group of the backbone are gone, and the share of MACs left."""
    pruned = copy.deepcopy(net)
    view = Detection.view(pruned)
    example = Detection.view_example(pruned, torch.zeros(1, 3, 64, 64))
    graph, budget = trace(view, example), Uniform(0.5, part="backbone")
    scores = Magnitude().scores(Scoring(view, graph, budget.prunable_groups(graph)))
    kept = budget.kept(graph, scores)
    narrow(view, graph, kept)
    return pruned, cost(graph, kept).macs / cost(graph).macs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="in each of which both sides run once")
    parser.add_argument("--steps", type=int, default=4, help="of each side in a round")
    parser.add_argument("--only", nargs="*", help="names of detectors")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    print(f"{hardware(torch.device('cpu'))}, one thread; {', '.join(f'{k} {v}' for k, v in versions().items())}\n")
    cases = {name: case for name, case in CASES.items() if not arguments.only or name in arguments.only}
    count = arguments.steps + 2
    print("| detector | batch | plain step | ours | ours / plain |\n|---|---|---|---|---|")
    nets = {}
    for name, case in cases.items():
        torch.manual_seed(0)
        nets[name], batch = case.build(), batch_of(case)
        plain, ours = [], []
        for _ in range(arguments.rounds):
            plain += plain_seconds(copy.deepcopy(nets[name]), batch, count)
            ours += our_seconds(copy.deepcopy(nets[name]), case, batch, count)
        one, other = statistics.median(plain), statistics.median(ours)
        print(
            f"| {name} | {case.images} | {1e3 * one:.0f} ms | {1e3 * other:.0f} ms | {other / one:.3f}x |", flush=True
        )
    print(
        "\n| detector | MACs explored / dense | dense step | explored step | explored / dense |\n|---|---|---|---|---|"
    )
    for name, case in cases.items():
        batch, (pruned, share) = batch_of(case), halved(nets[name])
        dense, explored = [], []
        for _ in range(arguments.rounds):
            dense += plain_seconds(copy.deepcopy(nets[name]), batch, count)
            explored += plain_seconds(copy.deepcopy(pruned), batch, count)
        one, other = statistics.median(dense), statistics.median(explored)
        print(f"| {name} | {share:.2f} | {1e3 * one:.0f} ms | {1e3 * other:.0f} ms | {other / one:.2f}x |")


if __name__ == "__main__":
    main()
