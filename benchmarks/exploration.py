"""What CHEX's training takes: time of narrow against masked and dense networks, over a whole schedule.

    python benchmarks/exploration.py            # CPU or, with --device cuda, the first GPU

Three networks with equal weights take their steps in turns, in one process, on the same images: (a) the dense one,
(b) the one in which dormant channels are zero, (c) the one in which they are not there. A step is forward pass,
cross-entropy, backward pass, SGD, and for (b) the masks. Before each row of the table (b) and (c) have a stage: they
wake, decide, and rest, timed apart; 70 % of the channels go in the end, and 30 % come back at first. All groups have
the same share of their channels, as scales that were trained for a few steps say nothing; learned widths cost more, by
about 1.1.

A schedule has 72 % of its epochs before the last stage. These are divided into equal parts, and each is measured at the
share of channels that comes back in its middle; the rest has the final width. The last row weighs all parts by their
epochs and adds the time of all stages of a real schedule. The last two columns are (c) over (a) and over (b), medians
of the ratios within a turn; the promises are about the former in the last row. On a CPU all times are CPU times of one
thread.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruning_lit.channels import ChannelGraph, ChannelGroup, cost_of_widths, trace
from pruning_lit.channels.insertion.shortcuts import insert_scatters
from pruning_lit.criteria.producers import is_joined
from pruning_lit.methods.chex.budgets import ChannelBudgets, regrow_share
from pruning_lit.methods.chex.decision import RegrowSampling, Stage, StageDecider
from pruning_lit.methods.chex.dormancy import MaskState, NarrowState, PrunedState
from pruning_lit.models import cifar_resnet, torchvision_model
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.limits import Limits

SPARSITY, INIT_REGROW = 0.7, 0.3


@dataclass(frozen=True)
class Case:
    """A network, the size of its images and their number in a batch, and the real schedule that it stands for.

    Attributes:
        promise: time of the narrow training over that of the dense one, at most.
        num_images: in an epoch.
        epochs, last_stage, interval: of the schedule.
        whole: groups that are not explored.
    """

    build: Callable[[], nn.Module]
    side: int
    batch: int
    promise: float
    num_images: int
    epochs: int
    last_stage: int
    interval: int
    whole: tuple[str, ...] = ()

    @property
    def explored_share(self) -> float:
        """Of the epochs, those before the last stage."""
        return self.last_stage / self.epochs

    @property
    def steps_per_stage(self) -> float:
        """Steps of the whole training over its stages."""
        return self.epochs * self.num_images / self.batch / (self.last_stage // self.interval)


CASES = {
    "resnet56": Case(
        partial(cifar_resnet, 56, stem="tied", shortcut="option_b", norm_scale=0.5), 32, 64, 0.7, 50_000, 200, 144, 2
    ),
    "resnet50": Case(
        partial(torchvision_model, "resnet50", norm_scale=0.5), 224, 4, 0.6, 1_281_167, 250, 180, 2, ("conv1",)
    ),
}


@dataclass(frozen=True)
class Part:
    """A part of the schedule: its share of the epochs, and of the channels that comes back."""

    weight: float
    share: float


def parts(case: Case, count: int) -> list[Part]:
    """So many parts of equal length before the last stage, and the one behind it."""
    explored = [
        Part(case.explored_share / count, regrow_share(2 * number + 1, INIT_REGROW, 2 * count))
        for number in range(count)
    ]
    return [*explored, Part(1 - case.explored_share, 0.0)]


class Trained:
    """A network in training, dense or, with a ``kind``, explored.

    Args:
        net: is copied.
        graph: of it.
        groups: those that are explored.
        images, target: of every step.
        kind: how dormant channels are treated; None: there are none.
    """

    def __init__(
        self,
        net: nn.Module,
        graph: ChannelGraph,
        groups: list[ChannelGroup],
        images: Tensor,
        target: Tensor,
        kind: type[PrunedState] | None = None,
    ) -> None:
        self.net, self.groups, self.images, self.target = copy.deepcopy(net).train(), groups, images, target
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
        self.trainer: Any = SimpleNamespace(optimizers=[self.optimizer], callbacks=[])  # all that is asked of one
        self.decider = StageDecider(ChannelBudgets("uniform"), RegrowSampling(), Limits(), DenseCost.of(graph))
        self.pruned = kind(self.net, graph) if kind else None

    @property
    def widths(self) -> dict[str, int]:
        """By explored group, the number of active channels."""
        active = self.pruned.active if self.pruned else {}
        return {group.name: len(active.get(group.name, range(group.size))) for group in self.groups}

    def begin(self) -> None:
        """The first choice."""
        first = self.decider.first(self.groups, dict(self.net.named_parameters()), SPARSITY, INIT_REGROW)
        self._prune(first)

    def stage(self, share: float) -> float:
        """One stage; its seconds, 0 where nothing is dormant."""
        if self.pruned is None:
            return 0.0
        start = now(self.images)
        masked = self.pruned.restore(self.trainer, self.net)
        restored, random = dict(self.net.named_parameters()), torch.Generator().manual_seed(0)
        self._prune(self.decider.decide(self.groups, masked, restored, None, SPARSITY, share, random))
        return now(self.images) - start

    def _prune(self, stage: Stage) -> None:
        if self.pruned is not None:
            self.pruned.prune(self.trainer, self.net, stage.active)

    def step(self) -> float:
        """One step; its seconds."""
        start = now(self.images)
        self.optimizer.zero_grad()
        cross_entropy(self.net(self.images), self.target).backward()
        if self.pruned is not None:
            self.pruned.zero_masked_gradients(self.net)
        self.optimizer.step()
        return now(self.images) - start


def in_turns(trained: Sequence[Trained], count: int) -> list[list[float]]:
    """Seconds of everybody's step in each of ``count`` turns, another one first each time; a turn ahead warms up."""
    turns = []
    for turn in range(count + 1):
        order = [(turn + at) % len(trained) for at in range(len(trained))]
        seconds = {at: trained[at].step() for at in order}
        turns.append([seconds[at] for at in range(len(trained))])
    return turns[1:]


def now(images: Tensor) -> float:
    """Seconds: those of the process, since others may be at work; with a GPU those of the clock, once it is done."""
    if not images.is_cuda:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(name: str, case: Case, num_parts: int, num_steps: int, device: str) -> None:
    """Print the rows of a network."""
    torch.manual_seed(0)
    images, target = torch.randn(case.batch, 3, case.side, case.side), torch.arange(case.batch) % 10
    net = case.build()
    insert_scatters(net, images[:1])
    graph = trace(net, images[:1])
    groups = [each for each in graph.prunable if each.name not in case.whole and not is_joined(graph, each)]
    net, images, target = net.to(device), images.to(device), target.to(device)
    kinds: list[type[PrunedState] | None] = [None, MaskState, NarrowState]
    everybody = [Trained(net, graph, groups, images, target, kind) for kind in kinds]
    for each in everybody:
        each.begin()
    rows, stages = [], []
    for part in parts(case, num_parts):
        stages.append([each.stage(part.share) for each in everybody])
        turns = in_turns(everybody, num_steps)
        dense, mask, narrow = (statistics.median(column) for column in zip(*turns, strict=True))
        to_dense, to_mask, masked = (statistics.median(t[a] / t[b] for t in turns) for a, b in ((2, 0), (2, 1), (1, 0)))
        macs = cost_of_widths(graph, everybody[-1].widths).macs / cost_of_widths(graph, {}).macs
        rows.append([part.weight, macs, dense, mask, narrow, to_dense, to_mask, masked])
        print(row(name, f"{part.share:.3f}", rows[-1]), flush=True)
    print(total(name, case, rows, stages), flush=True)


def row(name: str, share: str, figures: Sequence[float]) -> str:
    """A line of the table."""
    weight, macs, dense, mask, narrow, to_dense, to_mask, _ = figures
    times = " | ".join(f"{1e3 * seconds:.1f} ms" for seconds in (dense, mask, narrow))
    return f"| {name} | {share} | {weight:.3f} | {100 * macs:.1f} % | {times} | {to_dense:.3f}x | {to_mask:.3f}x |"


def total(name: str, case: Case, rows: Sequence[Sequence[float]], stages: Sequence[Sequence[float]]) -> str:
    """The line of the whole schedule, and what stages add to it."""
    macs, dense, mask, narrow, to_dense, _, mask_to_dense = (
        sum(each[0] * each[at] for each in rows) for at in range(1, 8)
    )
    _, mask_stage, narrow_stage = (statistics.median(column) for column in zip(*stages, strict=True))
    mask_extra, narrow_extra = (seconds / case.steps_per_stage / dense for seconds in (mask_stage, narrow_stage))
    whole = to_dense + narrow_extra
    figures = [1.0, macs, dense, mask, narrow, whole, whole / (mask_to_dense + mask_extra), mask_to_dense]
    verdict = "kept" if whole <= case.promise else "NOT KEPT"
    return (
        f"{row(f'**{name}**', 'all', figures)}\n\n"
        f"- {name}: {whole:.3f} of the dense training's time, at most {case.promise} promised: {verdict}\n"
        f"- {name}: a stage takes {narrow_stage:.2f} s ({narrow_stage / dense:.1f} dense steps; masked "
        f"{mask_stage:.2f} s); {case.last_stage // case.interval} of them add {narrow_extra:.1e} of the dense "
        "training's time\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--parts", type=int, default=4, help="of the schedule before its last stage")
    parser.add_argument("--steps", type=int, default=2, help="of each network in each part, in turns")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only:
        print("| network | comes back | of the epochs | MACs | dense | mask | narrow | to dense | to mask |")
        print("|---|---|---|---|---|---|---|---|---|")
        measure(name, CASES[name], arguments.parts, arguments.steps, arguments.device)


if __name__ == "__main__":
    main()
