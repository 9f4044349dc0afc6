"""The rows of compactors while they are trained: how long they are, which are masked, how far forgetting is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, Placement, cost_of_widths
from pruning_lit.channels.modules.compactor import compactor_of
from pruning_lit.criteria import Criterion, Scoring
from pruning_lit.sparsity import Sparsity
from pruning_lit.tasks import Task


class Forgetting(Protocol):
    """What a phase has to offer so that its compactors can be masked.

    Attributes:
        net: the network, with compactors.
        graph: the groups of the network without them, in which what cannot be pruned is protected.
        placements: where they are.
        criterion, sparsity: how long rows are, and how many channels are to stay.
        pull: length of the pull on every row.
    """

    net: nn.Module
    graph: ChannelGraph
    placements: Sequence[Placement]
    criterion: Criterion
    sparsity: Sparsity
    pull: float
    task: Task


@dataclass(frozen=True)
class Standing:
    """How far forgetting is.

    Attributes:
        left: by group, the rows that are not masked.
        dead: number of rows that are shorter than the threshold.
        macs_by_mask, macs_by_norm: multiply-accumulates without the masked rows, and without the dead ones.
        masked: number of masked rows.
    """

    left: dict[str, int]
    masked: int
    dead: int
    macs_by_mask: int
    macs_by_norm: int

    @classmethod
    def of(cls, module: Forgetting, norms: Mapping[str, Tensor], threshold: float) -> "Standing":
        """Of a network whose rows have these lengths."""
        listed = masked(module)
        left = {name: len(norms[name]) - len(rows) for name, rows in listed.items()}
        dead = {name: int((each < threshold).sum()) for name, each in norms.items()}
        alive = {name: max(1, len(norms[name]) - each) for name, each in dead.items()}
        by_mask, by_norm = (cost_of_widths(module.graph, widths).macs for widths in (left, alive))
        return cls(left, sum(map(len, listed.values())), sum(dead.values()), by_mask, by_norm)

    def counts(self, step: int) -> dict[str, int]:
        """One entry of the history: after so many optimizer steps."""
        macs = {"macs_by_mask": self.macs_by_mask, "macs_by_norm": self.macs_by_norm}
        return {"steps": step, "masked": self.masked} | macs

    def figures(self, dense_macs: int) -> dict[str, float]:
        """For loggers: numbers of rows, and shares of the dense network's MACs."""
        rows = {"rows/masked": float(self.masked), "rows/dead": float(self.dead)}
        shares = {"rows/macs_by_mask": self.macs_by_mask, "rows/macs_by_norm": self.macs_by_norm}
        return rows | {name: macs / dense_macs for name, macs in shares.items()}


def row_norms(module: Forgetting) -> dict[str, Tensor]:
    """By group that can be pruned, the lengths of its channels' rows, float64, on the CPU."""
    groups = module.sparsity.prunable_groups(module.graph)
    return module.criterion.scores(Scoring(module.net, module.graph, groups))


def masked(module: Forgetting) -> dict[str, list[int]]:
    """By group the positions whose rows are masked, ascending."""
    listed: dict[str, list[int]] = {}
    for placement in module.placements:
        mask = compactor_of(module.net, placement).mask.cpu()
        listed |= {name: (mask[list(rows)] == 0).nonzero().flatten().tolist() for name, rows in placement.rows.items()}
    return listed


def write_masks(module: Forgetting, listed: Mapping[str, Sequence[int]]) -> None:
    """Mask these positions, and no others."""
    for placement in module.placements:
        mask = compactor_of(module.net, placement).mask
        mask.fill_(1)
        mask[[rows[position] for name, rows in placement.rows.items() for position in listed[name]]] = 0
