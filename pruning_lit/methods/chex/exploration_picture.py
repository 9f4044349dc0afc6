"""A picture of how channels were explored: widths by group, MACs, and who came and went, from stage to stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from pruning_lit.methods.chex.section import ExploredRecord
from pruning_lit.reports.cuts import CutRecord
from pruning_lit.reports.heat_map import HeatMap, heat_map_figure, prepare_macs, prepare_time
from pruning_lit.reports.plots import KEPT, REMOVED, without_frame

DRAWN = "#9CCBE8"  # between what is removed and what is kept


@dataclass(frozen=True)
class Exploration:
    """The stages at which channels of a network were pruned and others came back.

    Attributes:
        unit: ``epochs`` or ``steps`` of the optimizer, at which stages were.
        sparsity: share of the channels that was to go in the end; None: a target of MACs was set.
        dense_macs: of the whole network.
        stages: what the network began with, then every stage: ``at``; ``share`` of the channels to come back;
            ``num_kept`` for their own sake, ``num_grown`` that came back, ``num_pruned`` that fell dormant;
            ``survived``, of those that came back at the stage before, the share now kept for its own sake, None where
            there were none; ``macs`` and, by group, ``widths`` from then on.
        sizes: by group, channels of the whole network, in its order.
        spent: ``macs`` of all forward passes before the last stage, those of a batch counted for one picture of it, and
            ``dense_macs``, what the whole network would have taken.
        share_of_training: the ratio of the two over the whole training; None: not known.
        target_macs: MACs that were to be left at most; None: a share of the channels was set.
        execution, regrow_init: the settings of these names; None: not known.
    """

    unit: str
    sparsity: float | None
    dense_macs: int
    stages: Sequence[Mapping[str, Any]]
    sizes: Mapping[str, int]
    spent: Mapping[str, int]
    share_of_training: float | None = None
    target_macs: int | None = None
    execution: str | None = None
    regrow_init: str | None = None

    @property
    def moments(self) -> list[int]:
        """When the stages were, ascending; the first is the begin of training."""
        return [stage["at"] for stage in self.stages]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares of the channels that are active, shape ``(groups, stages)``, 0 to 1."""
        widths = [[stage["widths"][name] for stage in self.stages] for name in self.sizes]
        totals = np.array([[size] for size in self.sizes.values()], dtype=np.float64)
        return np.array(widths, dtype=np.float64).reshape(len(self.sizes), len(self.stages)) / totals

    @property
    def woken(self) -> list[int]:
        """Per stage, the number of channels that had been dormant and now are active; at the begin 0."""
        active = [sum(stage["widths"].values()) for stage in self.stages]
        gained = [after - before for before, after in pairwise(active)]
        return [0, *(more + stage["num_pruned"] for more, stage in zip(gained, self.stages[1:], strict=True))]

    @property
    def survival(self) -> float | None:
        """Of all that came back, the share that was kept for its own sake at the stage after; None: nothing did."""
        pairs = [(before["num_grown"], stage["survived"]) for before, stage in pairwise(self.stages)]
        known = [(grown, share) for grown, share in pairs if share is not None]
        return sum(grown * share for grown, share in known) / sum(grown for grown, _ in known) if known else None

    @property
    def record(self) -> ExploredRecord:
        """What the report keeps of it: all but the course."""
        first, *later = self.stages
        widths = {name: [stage["widths"][name] for stage in self.stages] for name in self.sizes}
        return {
            "unit": self.unit,
            "execution": self.execution,
            "regrow_init": self.regrow_init,
            "sparsity": self.sparsity,
            "target_macs": self.target_macs,
            "dense_macs": self.dense_macs,
            "stages": len(later),
            "first_stage": self.moments[1],
            "last_stage": self.moments[-1],
            "first_macs": first["macs"],
            "final_macs": later[-1]["macs"],
            "grown": sum(stage["num_grown"] for stage in later),
            "woken": sum(self.woken),
            "pruned": sum(stage["num_pruned"] for stage in later),
            "survived": self.survival,
            "groups": [
                {
                    "group": name,
                    "size": size,
                    "first": widths[name][0],
                    "widest": max(widths[name]),
                    "narrowest": min(widths[name]),
                    "final": widths[name][-1],
                }
                for name, size in self.sizes.items()
            ],
            "share_to_last_stage": self.spent["macs"] / self.spent["dense_macs"] if self.spent["dense_macs"] else None,
            "share_of_training": self.share_of_training,
        }


def explorations(cuts: Sequence[CutRecord]) -> list[Exploration]:
    """The cuts at the end of an exploration; what they say beyond this is left out.

    Args:
        cuts: in order.
    """
    found = [cut["exploration"] for cut in cuts if cut.get("exploration")]
    names = [each.name for each in fields(Exploration)]
    return [Exploration(**{name: told[name] for name in names if name in told}) for told in found]


def exploration_figure(exploration: Exploration) -> Figure:
    """Active channels, group by group, below them the MACs and the channels that came and went, stage by stage.

    What a stage decides lasts until the next one; the network after the last stage, which is final, is drawn for as
    long as the one before. Beside the groups stands how many of their channels are left. MACs are shares of the dense
    network's; the line is what is left in the end.

    Raises:
        ValueError: there are no groups.
    """
    if not exploration.sizes:
        raise ValueError("a picture of an exploration needs at least one group that was explored, got none")
    edges, final = _edges(exploration.moments), exploration.stages[-1]["widths"]
    drawn = HeatMap(
        names=list(exploration.sizes),
        edges=edges,
        shares=exploration.shares,
        label="active channels",
        beside=[f"{final[name]:,} of {size:,}" for name, size in exploration.sizes.items()],
        beside_label="channels left",
    )
    figure, (macs, counts) = heat_map_figure(drawn, [2.0, 2.0])
    _draw_macs(macs, exploration, edges)
    _draw_counts(counts, exploration, edges)
    prepare_time(counts, edges, "epochs" if exploration.unit == "epochs" else "optimizer steps")
    return figure


def _edges(moments: Sequence[int]) -> list[int]:
    """From where to where every column goes, the last one as long as the one before."""
    return [*moments, moments[-1] + (moments[-1] - moments[-2] if len(moments) > 1 else 1)]


def _draw_macs(axes: Axes, exploration: Exploration, edges: Sequence[int]) -> None:
    left = [stage["macs"] / exploration.dense_macs for stage in exploration.stages]
    axes.step(edges, [*left, left[-1]], where="post", color=KEPT, linewidth=1.5, label="active channels")
    final = f"in the end: {100 * left[-1]:.1f} %"
    axes.axhline(left[-1], color="black", linestyle="--", linewidth=1, label=final)
    prepare_macs(axes, "MACs")
    axes.legend(loc="upper right", frameon=False, fontsize=8)


def _draw_counts(axes: Axes, exploration: Exploration, edges: Sequence[int]) -> None:
    """Those that come back upwards, those that fall dormant downwards."""
    pruned = [-stage["num_pruned"] for stage in exploration.stages]
    grown = [stage["num_grown"] for stage in exploration.stages]
    axes.stairs(grown, edges, fill=True, color=DRAWN, label="come back")
    axes.stairs(exploration.woken, edges, fill=True, color=KEPT, label="of these, dormant before")
    axes.stairs(pruned, edges, fill=True, color=REMOVED, label="fall dormant")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("channels")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{abs(count):,.0f}"))
    without_frame(axes)
    axes.legend(loc="upper right", frameon=False, fontsize=8)
