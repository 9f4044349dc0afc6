"""Rows of compactors in training: their norms, their masks, and the progress of masking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, Placement, cost_of_widths
from pruning_lit.channels.modules.compactor import compactor_of
from pruning_lit.criteria import Criterion, Scoring
from pruning_lit.methods.resrep.pace import MaskingPace
from pruning_lit.sparsity import Sparsity
from pruning_lit.tasks import Task


class HasCompactors(Protocol):
    """Phase whose compactors can be masked.

    Attributes:
        net: the network, with compactors.
        graph: the groups of the network without them, in which what cannot be pruned is protected.
        placements: where they are.
        criterion, sparsity: norms of rows, and how many channels are to stay.
        pace: lasso strength on every row, and when how many are masked; None before the run is known.
    """

    net: nn.Module
    graph: ChannelGraph
    placements: Sequence[Placement]
    criterion: Criterion
    sparsity: Sparsity
    pace: MaskingPace | None
    task: Task


@dataclass(frozen=True)
class MaskingProgress:
    """Numbers of rows that are masked and dead, and what the network would cost without them.

    Attributes:
        left: by group, the rows that are not masked.
        dead: number of rows with norms below the threshold.
        macs_by_mask, macs_by_norm: multiply-accumulates without the masked rows, and without the dead ones.
        masked: number of masked rows.
    """

    left: dict[str, int]
    masked: int
    dead: int
    macs_by_mask: int
    macs_by_norm: int

    @classmethod
    def of(cls, module: HasCompactors, norms: Mapping[str, Tensor], threshold: float) -> "MaskingProgress":
        """The progress of a network whose rows have these norms."""
        rows_masked = masked(module)
        left = {name: len(norms[name]) - len(rows) for name, rows in rows_masked.items()}
        dead = {name: int((each < threshold).sum()) for name, each in norms.items()}
        alive = {name: max(1, len(norms[name]) - each) for name, each in dead.items()}
        by_mask, by_norm = (cost_of_widths(module.graph, widths).macs for widths in (left, alive))
        return cls(left, sum(map(len, rows_masked.values())), sum(dead.values()), by_mask, by_norm)

    def counts(self, step: int) -> dict[str, int]:
        """Entry of the history, after so many optimizer steps."""
        macs = {"macs_by_mask": self.macs_by_mask, "macs_by_norm": self.macs_by_norm}
        return {"steps": step, "masked": self.masked} | macs

    def figures(self, dense_macs: int) -> dict[str, float]:
        """Figures for loggers: numbers of rows, and shares of the dense network's MACs."""
        rows = {"rows/masked": float(self.masked), "rows/dead": float(self.dead)}
        shares = {"rows/macs_by_mask": self.macs_by_mask, "rows/macs_by_norm": self.macs_by_norm}
        return rows | {name: macs / dense_macs for name, macs in shares.items()}


def row_norms(module: HasCompactors) -> dict[str, Tensor]:
    """Norms of the rows of every channel that can be pruned, by group, float64, on the CPU."""
    groups = module.sparsity.prunable_groups(module.graph)
    return module.criterion.scores(Scoring(module.net, module.graph, groups))


def masked(module: HasCompactors) -> dict[str, list[int]]:
    """Positions whose rows are masked, by group, ascending."""
    positions: dict[str, list[int]] = {}
    for placement in module.placements:
        mask = compactor_of(module.net, placement).mask.cpu()
        positions |= {
            name: (mask[list(rows)] == 0).nonzero().flatten().tolist() for name, rows in placement.rows.items()
        }
    return positions


def write_masks(module: HasCompactors, positions: Mapping[str, Sequence[int]]) -> None:
    """Mask these positions, and no others."""
    for placement in module.placements:
        mask = compactor_of(module.net, placement).mask
        mask.fill_(1)
        mask[[rows[position] for name, rows in placement.rows.items() for position in positions[name]]] = 0
