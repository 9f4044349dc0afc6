"""Which networks the channel graph understands: ``python benchmarks/coverage.py [--only NAME …] > coverage.md``.

Each network is traced, a random half of the channels of every group that allows it is removed, and the output is
compared with that of the masked network, in float64 (for detectors of one stage, at their heads), in eval mode and in
training mode; "-" where a network does not run in training on a picture alone. Seconds are of the processor, of a
single thread, in float32 as people use it: `trace` (with its rehearsal), then the plan of a budget with given scores,
and `narrow`.
"""

import argparse
import copy
import datetime
import re
import sys
import time
from collections import Counter
from typing import Any

import torch
from networks import Network, networks, random_weights
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels import ChannelGraph, cost, mask, narrow, trace, verify
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.sparsity import Uniform

HEADINGS = (
    "network", "groups", "prunable channels", "error", "error in training",
    "parameters left", "MACs left", "trace s", "plan and cut s", "protected"
)  # fmt: skip
MOST = 5.0  # seconds of a network, in all


def random_scores(graph: ChannelGraph) -> dict[str, Tensor]:
    """Scores of every group that may be pruned, by which half of it goes."""
    random = torch.Generator().manual_seed(0)
    return {group.name: torch.rand(group.size, generator=random) for group in graph.prunable}


def channels(graph: ChannelGraph, prunable: bool) -> int:
    """How many output channels of layers may leave (or may not)."""
    return sum(
        piece.positions.numel()
        for group in graph.groups
        for piece in group.slices
        if piece.role == "writes" and (group.protected is None) is prunable
    )


def reasons(graph: ChannelGraph) -> str:
    """Why groups are protected, in words, each once, with the number of groups."""
    told = [str(group.protected).split(" (in ")[0] for group in graph.groups if group.protected]
    found = Counter(re.sub(r"'[^']+'", "…", each) for each in told)
    return "; ".join(f"{count} x {reason}" for reason, count in found.most_common()).replace("|", "/")


class Heads(nn.Module):
    """A detector up to its heads: among predictions of random weights are equals, which sorting puts in any order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any) -> Any:
        """What the heads say; for other networks, their output."""
        head = getattr(self.model, "head", None)
        if not isinstance(arguments[0], list) or head is None:
            return self.model(*arguments)
        heard: list[Any] = []
        hook = head.register_forward_hook(lambda _module, _given, result: heard.append(result))
        self.model(*arguments)
        hook.remove()
        return heard


def try_out(network: Network) -> list[str]:
    """One row of the table."""
    torch.manual_seed(0)
    model, example = random_weights(network.build()), network.example()
    start = time.process_time()
    graph = trace(model, example)
    traced = time.process_time() - start
    scores, narrowed = random_scores(graph), copy.deepcopy(model)
    start = time.process_time()
    kept = Uniform(0.5).plan(graph, scores).kept
    narrow(narrowed, graph, kept)
    cut = time.process_time() - start
    narrowed, masked = narrowed.double(), model.double()
    mask(masked, graph, kept)
    error = verify(Heads(narrowed), Heads(masked), _doubled(example))
    try:
        in_training = f"{verify(narrowed, masked, _two(_doubled(example)), training=True):.0e}"
    except Exception as failure:  # it needs targets
        in_training = "-"
        print(network.name, f"in training: {failure}", file=sys.stderr, flush=True)
    before, after = cost(graph), cost(graph, kept)
    assert after.params == sum(parameter.numel() for parameter in narrowed.parameters())
    there, fixed = channels(graph, True), channels(graph, False)
    return [
        network.name,
        f"{len(graph.groups)}",
        f"{there / (there + fixed):.1%}",
        f"{error:.0e}",
        in_training,
        f"{after.params / before.params:.1%}",
        f"{after.macs / before.macs:.1%}",
        f"{traced:.2f}",
        f"{cut:.2f}",
        reasons(graph),
    ]


def _doubled(example: tuple[Any, ...]) -> tuple[Any, ...]:
    return tree_map_only(Tensor, lambda tensor: tensor.double(), example)


def _two(example: tuple[Any, ...]) -> tuple[Any, ...]:
    """Pictures, and each mirrored and darker, for norms that want more than one.

    Of the same one twice a norm behind a global pooling would have no variance, and would enlarge what is round-off.
    """
    return tree_map_only(Tensor, lambda tensor: torch.cat([tensor, tensor.flip(-1) / 2]), example)


def main() -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of the networks to try")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    print(f"# Coverage\n\n{__doc__.split(chr(10) * 2, 1)[1].strip()}\n")
    print(f"{datetime.date.today()}, {hardware()}, {versions()}\n")
    print("| " + " | ".join(HEADINGS) + " |\n|" + " --- |" * len(HEADINGS))
    try_out(networks()[0])  # what is loaded at first use is not counted
    slow = []
    for network in networks():
        if only and network.name not in only:
            continue
        try:
            row = try_out(network)
        except Exception as error:  # a row all the same
            row = [
                network.name,
                *["-"] * 8,
                f"**failed**: {type(error).__name__}: {str(error)[:300]}".replace("\n", " "),
            ]
        else:
            total = float(row[7]) + float(row[8])
            slow += [f"{network.name} ({total:.1f} s)"] if total > MOST else []
        print("| " + " | ".join(row) + " |", flush=True)
        print(row[0], row[3], file=sys.stderr, flush=True)
    print(f"\nMore than {MOST:g} s of the processor: {', '.join(slow) or 'none'}.")


if __name__ == "__main__":
    main()
