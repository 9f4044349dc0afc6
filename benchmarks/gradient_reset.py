"""What ResRep's training costs: time of its step over that of a plain one, against what compactors add in MACs.

    python benchmarks/gradient_reset.py            # CPU or, with --device cuda, the first GPU

Three networks with equal weights take their steps in turns, in one process, on the same images: (a) the plain one,
(b) with compactors and no edit of their gradients, (c) with compactors and the edit, half of all rows being masked. A
step is forward pass, cross-entropy, backward pass, edit, and SGD. What (c) takes over (a) is held against the MACs of
the two networks; the promise is at most 1.10 times their ratio. The last columns are (c) over (b), and the time of the
edit, measured alone. Times are medians, ratios medians of those within a turn.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from pruning_lit.channels import compactors, insert_compactors, trace
from pruning_lit.methods.resrep import CompactorNorm
from pruning_lit.methods.resrep.phase import reset_gradients
from pruning_lit.models import cifar_resnet, torchvision_model

PROMISE = 1.10  # times the ratio of the MACs
PULL = 1e-4  # as published


@dataclass(frozen=True)
class Case:
    """A network, the size of its images and their number in a batch, and what gets no compactor in the release."""

    build: Callable[[], nn.Module]
    side: int
    batch: int
    whole: tuple[str, ...] = ()


CASES = {
    "resnet56": Case(partial(cifar_resnet, 56, stem="tied", shortcut="option_b"), 32, 64),
    "resnet50": Case(partial(torchvision_model, "resnet50"), 224, 4, ("conv1",)),
}


def with_compactors(net: nn.Module, example: Tensor, whole: tuple[str, ...]) -> nn.Module:
    """A copy with compactors where the criterion has them, but for the groups that stay ``whole``; half is masked."""
    net, criterion = copy.deepcopy(net), CompactorNorm()
    graph = trace(net, example)
    unsupported = {*criterion.unsupported(net, graph), *whole}
    insert_compactors(
        net, criterion.placements(net, graph, [each for each in graph.prunable if each.name not in unsupported])
    )
    for compactor in compactors(net).values():
        compactor.mask[::2] = 0
    return net


def num_macs(net: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of a forward pass of one image, counted by torch."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(net).eval()(example)
    return counter.get_total_flops() // 2


def editing(net: nn.Module) -> Callable[[], None]:
    """The edit, between the backward pass and the optimizer's step."""
    return partial(reset_gradients, list(compactors(net).values()), PULL)


def make_optimizer(net: nn.Module) -> torch.optim.Optimizer:
    """SGD, for compactors with their momentum and without weight decay, as published."""
    apart = [compactor.weight for compactor in compactors(net).values()]
    others = [parameter for parameter in net.parameters() if all(parameter is not each for each in apart)]
    groups = [{"params": others}, {"params": apart, "momentum": 0.99, "weight_decay": 0.0}]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=1e-3, momentum=0.9, weight_decay=1e-4)


def steps(net: nn.Module, images: Tensor, target: Tensor, edit: Callable[[], None]) -> Iterator[float]:
    """Train for ever; the seconds of every step."""
    optimizer = make_optimizer(net.train())
    while True:
        start = now(images)
        optimizer.zero_grad()
        cross_entropy(net(images), target).backward()
        edit()
        optimizer.step()
        yield now(images) - start


def in_turns(kinds: Sequence[Iterator[float]], count: int) -> list[list[float]]:
    """What every kind gives in each of ``count`` turns, another one first each time; two turns before that warm up."""
    turns = []
    for turn in range(count + 2):
        given = {(turn + at) % len(kinds): next(kinds[(turn + at) % len(kinds)]) for at in range(len(kinds))}
        turns.append([given[kind] for kind in range(len(kinds))])
    return turns[2:]


def now(images: Tensor) -> float:
    """Seconds, once everything asked of a GPU is done."""
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def edit_seconds(edit: Callable[[], None], images: Tensor, repeats: int = 100) -> float:
    """Of one edit, when all compactors have gradients."""
    start = now(images)
    for _ in range(repeats):
        edit()
    return (now(images) - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--steps", type=int, default=20, help="of each kind, in turns")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | compactors | batch | MACs ratio | plain | no edit | ResRep | ratio | over MACs | edit | alone |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in arguments.only:
        torch.manual_seed(0)
        case = CASES[name]
        images, target = torch.randn(case.batch, 3, case.side, case.side), torch.arange(case.batch) % 10
        net = case.build()
        resrep = with_compactors(net, images[:1], case.whole)
        ratio = num_macs(resrep, images[:1]) / num_macs(net, images[:1])
        net, resrep = net.to(arguments.device), resrep.to(arguments.device)
        images, target = images.to(arguments.device), target.to(arguments.device)
        unedited, edit = copy.deepcopy(resrep), editing(resrep)
        kinds = [(net, lambda: None), (unedited, lambda: None), (resrep, edit)]
        turns = in_turns([steps(each, images, target, between) for each, between in kinds], arguments.steps)
        plain, bare, edited = (statistics.median(column) for column in zip(*turns, strict=True))
        to_plain, to_bare = (statistics.median(turn[2] / turn[at] for turn in turns) for at in (0, 1))
        over = to_plain / ratio
        print(
            f"| {name} | {len(compactors(resrep))} | {case.batch} | {ratio:.4f} | {1e3 * plain:.1f} ms "
            f"| {1e3 * bare:.1f} ms | {1e3 * edited:.1f} ms | {to_plain:.3f}x | {over:.3f}x, "
            f"{'kept' if over <= PROMISE else 'NOT KEPT'} | {to_bare:.3f}x "
            f"| {1e3 * edit_seconds(edit, images):.2f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
