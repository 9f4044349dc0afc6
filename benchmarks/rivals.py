"""Networks of one cost by ours and by rivals, on the same pictures: accuracy after the cut and after fine-tuning.

    pip install nvidia-modelopt torch-pruning
    python benchmarks/rivals.py data/cifar10_jpeg data/pretrained/resnet20_cifar10_jpeg.pt --reduction 0.5 --epochs 10

All begin with the same trained ResNet, end at no more than the same multiply-accumulates, have their norms recalibrated
on the same images, and are fine-tuned by one recipe for as many epochs. Torch-Pruning: its group norm over the whole
network, in 400 small steps, as its own scripts do, without and with its sparsity training. What it makes of padded
shortcuts no longer runs when residual streams are cut, so it cuts inner layers alone, which our default does, too. A
network whose way begins with sparsity training gets half of the epochs for that. *scratch*: the widths of *magnitude*
with fresh weights, five times the learning rate, as many epochs.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from search import Bench, accuracy
from torch import nn

from pruning_lit.channels import cost, narrow, recalibrate, trace
from pruning_lit.criteria import Criterion, GroupNorm, Magnitude, Scoring, Taylor
from pruning_lit.criteria.group_norm import weights_of
from pruning_lit.methods.depgraph.phase import add_group_decay
from pruning_lit.models import cifar_resnet, start_afresh
from pruning_lit.sparsity import Macs
from pruning_lit.tasks import Classification

STRENGTH = 5e-4  # of sparsity training, as in DepGraph's own command


class Rivals:
    """Ways to a smaller network; each takes a seed, and gives the network right after its cut."""

    def __init__(self, bench: Bench, reduction: float, epochs: int, checkpoint: Path) -> None:
        self.bench, self.reduction, self.epochs, self.checkpoint = bench, reduction, epochs, checkpoint
        self.streams = [group.name for group in bench.graph.prunable if len(group.writers) > 1]

    def plan(self, net: nn.Module, criterion: Criterion) -> nn.Module:
        graph = trace(net, self.bench.data.example)
        scoring = Scoring(net, graph, graph.prunable, self.bench.data, Classification(10))
        narrow(net, graph, Macs(self.reduction).bind(criterion).plan(graph, criterion.scores(scoring)).kept)
        return net

    def dense(self) -> nn.Module:
        return copy.deepcopy(self.bench.net)

    def magnitude(self, seed: int) -> nn.Module:
        return self.plan(self.dense(), Magnitude())

    def taylor(self, seed: int) -> nn.Module:
        return self.plan(self.dense(), Taylor(seed=seed))

    def search(self, seed: int) -> nn.Module:
        return self.bench.cut(self.bench.ours(seed)(self.reduction))

    def depgraph(self, seed: int) -> nn.Module:
        net = self.dense()
        groups = [group for group in trace(net, self.bench.data.example).prunable if group.name not in self.streams]
        decay: Callable[[nn.Module], None] = lambda net: add_group_decay(groups, weights_of(net), STRENGTH, 16.0)  # noqa: E731
        return self.plan(self.bench.fine_tune(net, self.epochs // 2, seed, 0.01, 0.0, decay), GroupNorm())

    def fastnas(self, seed: int) -> nn.Module:
        self.checkpoint.unlink(missing_ok=True)
        return self.bench.cut(self.bench.fastnas(4, self.checkpoint)(self.reduction))

    def torch_pruning(self, seed: int) -> nn.Module:
        return self.by_group_norm(self.dense())

    def torch_pruning_sparse(self, seed: int) -> nn.Module:
        net = self.dense()
        regularize = self.pruner(net).regularize
        return self.by_group_norm(self.bench.fine_tune(net, self.epochs // 2, seed, 0.01, 0.0, regularize).eval())

    def scratch(self, seed: int) -> nn.Module:
        net = self.magnitude(seed)
        torch.manual_seed(seed)
        start_afresh(net, cifar_resnet(self.bench.depth))
        return net

    def pruner(self, net: nn.Module):
        import torch_pruning as tp

        whole = [net.get_submodule(writer) for name in self.streams for writer in self.bench.graph[name].writers]
        last = [module for module in net.modules() if isinstance(module, nn.Linear)]
        return tp.pruner.GroupNormPruner(
            net,
            self.bench.data.example,
            tp.importance.GroupMagnitudeImportance(p=2),
            reg=STRENGTH,
            global_pruning=True,
            pruning_ratio=1.0,
            iterative_steps=400,
            ignored_layers=[*whole, *last],
        )

    def by_group_norm(self, net: nn.Module) -> nn.Module:
        pruner = self.pruner(net)
        while self.macs(net) > (1 - self.reduction) * self.bench.dense:
            pruner.step()
        return net

    def macs(self, net: nn.Module) -> int:
        return cost(trace(net, self.bench.data.example)).macs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="image folder with train/ and test/")
    parser.add_argument("weights", help="of a ResNet trained on it")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--reduction", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--checkpoint", type=Path, default=Path("fastnas.pth"), help="FastNAS's, deleted first")
    parser.add_argument("--cache", default=None)
    ways = ["search", "taylor", "magnitude", "depgraph", "fastnas", "torch_pruning", "torch_pruning_sparse", "scratch"]
    parser.add_argument("--ways", nargs="+", default=ways)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.root, arguments.weights, arguments.depth, 1000, 640, arguments.cache)
    print(f"dense: {bench.dense:,} MACs, {100 * accuracy(bench.net, bench.test):.2f} %\n", flush=True)
    print(
        "| way | seed | MACs | gone | after the cut | fine-tuned | CPU, s |\n|---|---|---|---|---|---|---|", flush=True
    )
    rivals = Rivals(bench, arguments.reduction, arguments.epochs, arguments.checkpoint)
    for seed in arguments.seeds:
        for name in arguments.ways:
            began = time.process_time()
            net = getattr(rivals, name)(seed)
            macs, left = rivals.macs(net), arguments.epochs
            if name == "scratch":
                after = float("nan")
                tuned = accuracy(bench.fine_tune(net, left, seed, rate=0.1), bench.test)
            else:
                left -= arguments.epochs // 2 * (name in ("depgraph", "torch_pruning_sparse"))
                recalibrate(net, [images for images, _ in bench.calibration])
                after = accuracy(net, bench.test)
                tuned = accuracy(bench.fine_tune(net, left, seed), bench.test)
            row = (name, seed, f"{macs:,}", f"{1 - macs / bench.dense:.1%}", f"{100 * after:.2f} %")
            print("", *row, f"{100 * tuned:.2f} %", f"{time.process_time() - began:.0f}", "", sep=" | ", flush=True)


if __name__ == "__main__":
    main()
