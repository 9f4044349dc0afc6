"""What the choice of widths is worth: accuracy right after one cut, norms recalibrated, no fine-tuning.

    python benchmarks/scopes_after_cut.py data/cifar10_jpeg data/pretrained/resnet20_cifar10_jpeg.pt

A trained ResNet is cut to fewer multiply-accumulates by several criteria: the same share of every layer
(``scope=layer``); the lowest scores first, wherever they are (``global``); the largest sum of scores for what they cost
(``knapsack``). Residual streams stay whole until the others have lost 80 % of their channels (``last``); beside it, for
``global``, as all other layers (``alike``), and whole in any case. With ``--steps`` cuts go part of the way each, as
Torch-Pruning's do, and scores are taken anew after each.
"""

import argparse
import copy
from fractions import Fraction
from pathlib import Path

import torch
from search import Bench, accuracy
from torch import nn

from pruning_lit.channels import narrow, recalibrate, trace
from pruning_lit.criteria import LAMP, GroupNorm, Hessian, Magnitude, Scoring, Taylor
from pruning_lit.sparsity import DenseCost, Macs
from pruning_lit.tasks import Classification

CRITERIA = {
    "magnitude": Magnitude(),
    "group_norm": GroupNorm(),
    "taylor": Taylor(seed=1),
    "taylor, absolute": Taylor("absolute", seed=1),
    "lamp": LAMP(),
    "hessian": Hessian(seed=1),
}


def cut(bench: Bench, budget: Macs, name: str, steps: int) -> nn.Module:
    net, dense, budget = copy.deepcopy(bench.net), DenseCost.of(bench.graph), budget.bind(CRITERIA[name])
    for step in range(1, steps + 1):
        graph = trace(net, bench.data.example)
        scoring = Scoring(net, graph, graph.prunable, bench.data, Classification(10))
        plan = budget.plan(graph, CRITERIA[name].scores(scoring), dense, Fraction(step, steps))
        narrow(net, graph, plan.kept)
    recalibrate(net, [images for images, _ in bench.calibration])
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="image folder with train/ and test/")
    parser.add_argument("weights", help="of a ResNet trained on it")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.3, 0.5, 0.7])
    parser.add_argument("--criteria", nargs="+", default=list(CRITERIA))
    parser.add_argument("--ways", nargs="+", help="columns of the table; all by default")
    parser.add_argument("--steps", nargs="+", type=int, default=[1])
    parser.add_argument("--exclude", nargs="+", default=[], help="groups left whole")
    parser.add_argument("--cache", default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(str(arguments.root), arguments.weights, arguments.depth, 1000, 640, arguments.cache)
    streams = [group.name for group in bench.graph.prunable if len(group.writers) > 1]
    ways = {
        "global, alike": {"scope": "global", "streams": "alike"},
        "global, last": {"scope": "global"},
        "global, whole": {"scope": "global", "exclude": streams},
        "layer, last": {"scope": "layer"},
        "knapsack, last": {"scope": "knapsack"},
    }
    if arguments.ways:
        ways = {name: ways[name] for name in arguments.ways}
    columns = [(way, steps) for way in ways for steps in arguments.steps]
    titles = [way + f", {steps} steps" * (steps > 1) for way, steps in columns]
    print(f"| MACs | criterion | {' | '.join(titles)} |\n|---|---|{'---:|' * len(titles)}", flush=True)
    for reduction in arguments.budgets:
        for name in arguments.criteria:
            found = []
            for way, steps in columns:
                if ways[way]["scope"] == "knapsack" and not CRITERIA[name].additive:
                    found.append("–")
                    continue
                settings = {**ways[way], "exclude": [*ways[way].get("exclude", []), *arguments.exclude]}
                net = cut(bench, Macs(reduction, **settings), name, steps)
                found.append(f"{100 * accuracy(net, bench.test):.1f} %")
            print(f"| −{reduction:.0%} | `{name}` | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
