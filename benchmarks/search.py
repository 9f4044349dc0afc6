"""Search of widths against NVIDIA Model Optimizer's FastNAS: accuracy after the cut and after fine-tuning, and time.

    pip install nvidia-modelopt
    python benchmarks/search.py data/cifar10_jpeg data/pretrained/resnet20_cifar10_jpeg.pt --depth 20

Both search the widths of one trained ResNet, by accuracy or loss on the same training images, with norms recalibrated
on the same images; both networks are then cut by one criterion (the sum of absolute weights), recalibrated, and
fine-tuned by one recipe. FastNAS measures its sensitivity map once, and reads the widths of all budgets from it; ours
remembers its trials likewise. Seconds are of CPU time, on one thread, up to and with each budget.
"""

import argparse
import copy
import io
import json
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.callbacks import Recalibration
from pruning_lit.channels import ChannelGraph, cost_of_widths, narrow, recalibrate, trace
from pruning_lit.criteria import Magnitude, Scoring
from pruning_lit.data import ImageFolder
from pruning_lit.models import cifar_resnet, load_weights
from pruning_lit.sparsity import Macs, Search
from pruning_lit.sparsity.base import best
from pruning_lit.sparsity.trials import Trials
from pruning_lit.tasks import Classification

Batches = list[tuple[Tensor, Tensor]]


@torch.no_grad()
def accuracy(net: nn.Module, batches: Batches) -> float:
    net.eval()
    right = sum(int((net(images).argmax(1) == target).sum()) for images, target in batches)
    return right / sum(len(target) for _, target in batches)


class Bench:
    def __init__(self, root: str, weights: str, depth: int, num_held: int, num_calibration: int, cache: str | None):
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        self.data = ImageFolder(root=root, batch_size=128, mean=mean, std=std, pad=4, flip=True, cache=cache)
        self.data.setup()
        self.depth, self.net = depth, cifar_resnet(depth).eval()
        load_weights(self.net, weights)
        self.graph: ChannelGraph = trace(self.net, self.data.example)
        self.scoring = Scoring(self.net, self.graph, self.graph.prunable, self.data, Classification(10))
        self.scores = Magnitude().scores(self.scoring)
        self.renewal = Recalibration(batches=num_calibration // 128, batch_size=128)
        self.calibration = [*self.renewal.images(self.data)]
        self.num_held = num_held
        self.held = [*self.data.held_out(num_held, 0)]
        self.test = [self.data.on_after_batch_transfer(batch, 0) for batch in self.data.test_batches()]
        self.dense = cost_of_widths(self.graph, {}).macs

    def cut(self, widths: dict[str, int]) -> nn.Module:
        net = copy.deepcopy(self.net)
        narrow(net, self.graph, {name: best(self.scores[name], width) for name, width in widths.items()})
        recalibrate(net, [images for images, _ in self.calibration])
        return net

    def fine_tune(
        self,
        net: nn.Module,
        epochs: int,
        seed: int = 0,
        rate: float = 0.02,
        weight_decay: float = 5e-4,
        edit: Callable[[nn.Module], None] | None = None,
    ) -> nn.Module:
        """SGD, one cycle to 0.02, weight decay 5e-4, bf16, channels last; the same order for all."""
        if not epochs:
            return net
        torch.manual_seed(seed)
        net = net.to(memory_format=torch.channels_last).train()
        loader = self.data.train_dataloader()
        optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=weight_decay, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * len(loader), pct_start=0.2)
        for epoch in range(epochs):
            loader.sampler.set_epoch(epoch + seed * epochs)
            for batch in loader:
                images, target = self.data.ready(batch)
                with torch.autocast("cpu", torch.bfloat16):
                    loss = F.cross_entropy(net(images.contiguous(memory_format=torch.channels_last)), target)
                optimizer.zero_grad()
                loss.backward()
                if edit is not None:  # of the gradients
                    edit(net)
                optimizer.step()
                schedule.step()
        return net

    def ours(self, seed: int) -> Callable[[float], dict[str, int]]:
        trials = Trials(self.scoring, self.scores, self.renewal.for_trials(), None, self.num_held, 0)

        def widths(reduction: float) -> dict[str, int]:
            budget = Search(reduction, seed=seed).with_trials(lambda num_examples, seed: trials)
            return budget.plan(self.graph, self.scores).widths

        return widths

    def fastnas(self, divisor: int, checkpoint: Path) -> Callable[[float], dict[str, int]]:
        import modelopt.torch.prune as mtp

        writers = {group.writers[0]: group.name for group in self.graph.prunable}

        def widths(reduction: float) -> dict[str, int]:
            choices = {"channels_ratio": tuple(0.05 * i for i in range(1, 21)), "channel_divisor": divisor}
            norms = {"features_ratio": choices["channels_ratio"], "feature_divisor": divisor}
            rules = {"nn.Conv2d": {"*": choices}, "nn.BatchNorm2d": {"*": norms}}
            share = 1 - reduction
            for _ in range(20):  # its count of operations is not ours: until ours is met
                with redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    pruned, _state = mtp.prune(
                        copy.deepcopy(self.net),
                        mode=[("fastnas", rules)],
                        constraints={"flops": f"{100 * share:.2f}%"},
                        dummy_input=self.data.example,
                        config={
                            "data_loader": self.calibration,
                            "score_func": lambda net: accuracy(net, self.held),
                            "checkpoint": str(checkpoint),
                            "verbose": False,
                        },
                    )
                found = {
                    writers[name]: module.out_channels
                    for name, module in pruned.named_modules()
                    if isinstance(module, nn.Conv2d) and name in writers
                }
                if cost_of_widths(self.graph, found).macs <= self.dense * (1 - reduction):
                    return found
                share -= 0.005
            raise RuntimeError("FastNAS met no such budget")

        return widths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="image folder with train/ and test/")
    parser.add_argument("weights", help="of a ResNet trained on it")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--divisor", type=int, default=4, help="FastNAS: widths are multiples of this")
    parser.add_argument("--examples", type=int, default=1000, help="on which cuts are evaluated")
    parser.add_argument("--calibration", type=int, default=640, help="images by which norms are recalibrated")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, default=Path("fastnas.pth"), help="FastNAS's, deleted first")
    parser.add_argument("--cache", default=None)
    parser.add_argument("--ways", nargs="+", default=["ours", "FastNAS", "uniform", "inner"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.3, 0.5, 0.7])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(
        arguments.root, arguments.weights, arguments.depth, arguments.examples, arguments.calibration, arguments.cache
    )
    print(f"dense: {bench.dense:,} MACs, {100 * accuracy(bench.net, bench.test):.2f} %", flush=True)
    arguments.checkpoint.unlink(missing_ok=True)

    def uniform(**settings: Any) -> Callable[[float], dict[str, int]]:
        return lambda reduction: Macs(reduction, **settings).bind(Magnitude()).plan(bench.graph, bench.scores).widths

    streams = [group.name for group in bench.graph.prunable if len(group.writers) > 1]
    inner = uniform(exclude=streams)
    known = {
        "ours": bench.ours(0),
        "FastNAS": bench.fastnas(arguments.divisor, arguments.checkpoint),
        "uniform": uniform(),
        "inner": inner,
    }
    ways = {name: known[name] for name in arguments.ways}
    seconds = dict.fromkeys(known, 0.0)
    for reduction in arguments.budgets:
        for name, way in ways.items():
            began = time.process_time()
            try:
                widths = way(reduction)
            except ValueError as error:
                print(f"{reduction:.0%} {name}: {error}", flush=True)
                continue
            seconds[name] += time.process_time() - began
            net = bench.cut(widths)
            after = accuracy(net, bench.test)
            tuned = accuracy(bench.fine_tune(net, arguments.epochs), bench.test)
            macs = cost_of_widths(bench.graph, widths).macs
            print(
                f"{reduction:.0%} {name:8} {macs:>12,} MACs ({1 - macs / bench.dense:.1%} gone): "
                f"{100 * after:.2f} % after the cut, {100 * tuned:.2f} % fine-tuned, {seconds[name]:.0f} s so far; "
                f"{json.dumps(widths)}",
                flush=True,
            )
        if {"ours", "FastNAS"} <= {*ways}:
            print(
                f"{reduction:.0%} FastNAS / ours, time so far: {seconds['FastNAS'] / seconds['ours']:.2f}x", flush=True
            )


if __name__ == "__main__":
    main()
