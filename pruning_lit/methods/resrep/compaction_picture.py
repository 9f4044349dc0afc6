"""A picture of how compactors forgot: rows on the list by layer, and the MACs left, in the course of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pruning_lit.reports.cuts import CutRecord
from pruning_lit.reports.heat_map import HeatMap, heat_map_figure, prepare_macs, prepare_time
from pruning_lit.reports.plots import KEPT, REMOVED
from pruning_lit.reports.record import CompactedGroup, CompactedRecord


@dataclass(frozen=True)
class Compaction:
    """How the compactors of a network took their course, and what came of it when they were folded into the layers.

    Attributes:
        target_macs: what is to remain at most.
        dense_macs: of the dense network.
        threshold: rows with smaller norms are dead.
        history: per update of the list ``steps``, optimizer steps done, ``masked``, rows on the list, ``macs_by_mask``
            and ``macs_by_norm``, MACs left without the masked rows and without the dead ones, and ``rows``, by group
            those that are not masked.
        rows: what became of every group's rows, in the order of the network.
        below: number of rows with smaller norms than the key, such as ``1e-03``.
        forced: masked rows that were alive were removed, too.
        changed: number of test pictures with another predicted class after the conversion.
        pictures: of so many.
        error: largest difference of the outputs before and after, over the largest output.
    """

    target_macs: float
    dense_macs: int
    threshold: float
    history: Mapping[str, Any]
    rows: Sequence[CompactedGroup]
    below: Mapping[str, int]
    forced: bool
    changed: int
    pictures: int
    error: float

    @property
    def steps(self) -> list[int]:
        """Optimizer steps done at every update of the list, ascending."""
        return list(self.history["steps"])

    @property
    def met_at(self) -> int | None:
        """Optimizer steps done when the rows that are not masked first met the target; None: never."""
        macs = zip(self.steps, self.history["macs_by_mask"], strict=True)
        return next((step for step, left in macs if left <= self.target_macs), None)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares of the rows that are not masked, shape ``(groups, updates)``, 0 to 1."""
        left = [self.history["rows"].get(each["group"], []) for each in self.rows]
        totals = np.array([[each["rows"]] for each in self.rows], dtype=np.float64)
        return np.array(left, dtype=np.float64).reshape(len(self.rows), len(self.steps)) / totals

    @property
    def record(self) -> CompactedRecord:
        """What the report keeps of it: all but the course."""
        return {
            "target_macs": self.target_macs,
            "dense_macs": self.dense_macs,
            "threshold": self.threshold,
            "updates": len(self.steps),
            "met_at": self.met_at,
            "groups": [CompactedGroup(**each) for each in self.rows],
            "below": dict(self.below),
            "forced": self.forced,
            "changed": self.changed,
            "pictures": self.pictures,
            "error": self.error,
        }


def compactions(cuts: Sequence[CutRecord]) -> list[Compaction]:
    """The cuts that folded compactors into layers; what they say beyond this is left out.

    Args:
        cuts: in order.
    """
    known = [cut["compaction"] for cut in cuts if cut.get("compaction")]
    return [Compaction(**{each.name: found[each.name] for each in fields(Compaction)}) for found in known]


def compaction_figure(compaction: Compaction) -> Figure:
    """Rows that are not masked, layer by layer, and below them the MACs left, both over the optimizer steps.

    An update of the list lasts until the next one, the last as long as the one before; ahead of the first no row is
    masked. Beside the layers stands how many of their rows stayed in the end. The MACs are those left without masked
    rows and without dead ones, as shares of the dense network's; the line is the target.

    Raises:
        ValueError: there are no layers.
    """
    if not compaction.rows:
        raise ValueError("a picture of compactors needs at least one layer that has one, got none")
    edges, rows = _edges(compaction.steps), compaction.rows
    drawn = HeatMap(
        names=[each["group"] for each in rows],
        edges=edges,
        shares=np.hstack([np.ones((len(rows), 1)), compaction.shares]),
        label="rows that are not masked",
        beside=[f"{each['kept']:,} of {each['rows']:,}" for each in rows],
        beside_label="rows kept",
    )
    figure, (macs,) = heat_map_figure(drawn, [2.4])
    _draw_macs(macs, compaction, edges)
    prepare_time(macs, edges, "optimizer steps")
    return figure


def _edges(steps: Sequence[int]) -> list[int]:
    """From where to where every column goes: one ahead of the first update, then one per update, in steps."""
    known = [0, *steps]
    return [*known, known[-1] + max(1, known[-1] - known[-2] if steps else 1)]


def _draw_macs(axes: Axes, compaction: Compaction, edges: Sequence[int]) -> None:
    dense = compaction.dense_macs
    curves = [("dead", "macs_by_norm", KEPT, 2.5), ("masked", "macs_by_mask", REMOVED, 1.2)]  # thin over thick
    for kind, key, colour, width in curves:
        left = np.array([dense, *compaction.history[key]]) / dense
        axes.step(edges, [*left, left[-1]], where="post", color=colour, linewidth=width, label=f"without {kind} rows")
    share = compaction.target_macs / dense
    axes.axhline(share, color="black", linestyle="--", linewidth=1, label=f"target: {100 * share:.1f} %")
    prepare_macs(axes, "MACs left")
    axes.legend(loc="lower left", frameon=False, fontsize=8)
