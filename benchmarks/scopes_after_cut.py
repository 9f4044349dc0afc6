"""What the choice of widths is worth: accuracy right after one cut, norms recalibrated, no fine-tuning.

    python benchmarks/scopes_after_cut.py data/cifar10_jpeg data/pretrained/resnet20_cifar10_jpeg.pt

A trained ResNet is cut to fewer multiply-accumulates by several criteria: the same share of every layer
(``scope=layer``); the lowest scores first, wherever they are (``global``); the largest sum of scores for what they cost
(``knapsack``). Residual streams stay whole until the others have lost 80 % of their channels (``last``); beside it, for
``global``, as all other layers (``alike``), and whole in any case.
"""

import argparse
import copy
from pathlib import Path

import torch
from search import Bench, accuracy

from pruning_lit.channels import narrow, recalibrate
from pruning_lit.criteria import LAMP, GroupNorm, Hessian, Magnitude, Taylor
from pruning_lit.sparsity import Macs

CRITERIA = {
    "magnitude": Magnitude(),
    "group_norm": GroupNorm(),
    "taylor": Taylor(seed=1),
    "taylor, absolute": Taylor("absolute", seed=1),
    "lamp": LAMP(),
    "hessian": Hessian(seed=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="image folder with train/ and test/")
    parser.add_argument("weights", help="of a ResNet trained on it")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.3, 0.5, 0.7])
    parser.add_argument("--criteria", nargs="+", default=list(CRITERIA))
    parser.add_argument("--ways", nargs="+", help="columns of the table; all by default")
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
    ways = {name: settings for name, settings in ways.items() if not arguments.ways or name in arguments.ways}
    scores = {name: CRITERIA[name].scores(bench.scoring) for name in arguments.criteria}
    print(f"| MACs | criterion | {' | '.join(ways)} |\n|---|---|{'---:|' * len(ways)}", flush=True)
    for reduction in arguments.budgets:
        for name in arguments.criteria:
            found = []
            for settings in ways.values():
                net = copy.deepcopy(bench.net)
                budget = Macs(reduction, **settings).bind(CRITERIA[name])
                narrow(net, bench.graph, budget.plan(bench.graph, scores[name]).kept)
                recalibrate(net, [images for images, _ in bench.calibration])
                found.append(f"{100 * accuracy(net, bench.test):.1f} %")
            print(f"| −{reduction:.0%} | `{name}` | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
