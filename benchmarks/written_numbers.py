"""What rewriting numbers of modules frees: ``python benchmarks/written_numbers.py [NAME …]``.

Each network is traced twice, without looking for the numbers behind fixed channel numbers, and with. Networks are those
of ``networks.py`` by timm and pytorchcv that keep widths as numbers, unless others are named.
"""

import sys

import torch
from networks import PYTORCHCV, TIMM, networks, random_weights

from pruning_lit.channels import ChannelGraph, trace
from pruning_lit.channels.surgery.number_sources import NumberSources

KEEPING = ("res2", "csp", "mixnet", "shvit", "sk", "rexnet", "fasternet", "ibn", "efficientvit_m", "igcv3", "dpn")
WRITTEN = ("written into the code", "at a fixed channel number")
HEADINGS = ("network", "protected before", "of these by numbers", "protected now", "of these by numbers", "numbers")


def counts(graph: ChannelGraph) -> tuple[int, int]:
    """Groups that are protected, and those of them because of a number in the code."""
    reasons = [group.protected for group in graph.groups if group.protected]
    return len(reasons), sum(any(word in reason for word in WRITTEN) for reason in reasons)


def main() -> None:
    """Print the table, a row at a time, and the sum."""
    torch.set_num_threads(1)
    keeping = {f"timm {name}" for name in TIMM} | {f"pytorchcv {name}" for name in PYTORCHCV}
    keeping = {name for name in keeping if name.split()[1].startswith(KEEPING)}
    print("| " + " | ".join(HEADINGS) + " |\n|" + " --- |" * len(HEADINGS))
    rows, found = [], {name: getattr(NumberSources, name) for name in ("equal", "related")}
    for network in networks():
        if network.name not in (sys.argv[1:] or keeping):
            continue
        torch.manual_seed(0)
        model, example = random_weights(network.build()), network.example()
        for name in found:
            setattr(NumberSources, name, lambda *_: {})
        before = counts(trace(model, example))
        for name, method in found.items():
            setattr(NumberSources, name, method)
        graph = trace(model, example)
        rows.append([*before, *counts(graph), len(graph.numbers)])
        print(f"| {network.name} | " + " | ".join(map(str, rows[-1])) + " |", flush=True)
    print("| all | " + " | ".join(str(sum(column)) for column in zip(*rows, strict=True)) + " |")


if __name__ == "__main__":
    main()
