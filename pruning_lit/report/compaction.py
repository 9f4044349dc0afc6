"""A picture of how compactors forgot: rows on the list by layer, and the MACs left, in the course of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from pruning_lit.report.cuts import CutRecord
from pruning_lit.report.plots import BEFORE, KEPT, REMOVED, without_frame
from pruning_lit.report.record import CompactedGroup, CompactedRecord

# from none to all rows, in the colours that removed and kept channels have in the picture of the widths
SHARES = LinearSegmentedColormap.from_list("shares", ["#F7F7F7", "#9CCBE8", KEPT, "#00263D"])
PERCENT = PercentFormatter(1, symbol=" %")
ROW = 0.16  # inches, of a layer
LONGEST_NAME = 36  # letters of a layer's name


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
        left = [self.history["rows"][each["group"]] for each in self.rows]
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
    heights = [max(0.8, ROW * len(compaction.rows)), 2.4]  # inches
    figure = Figure(figsize=(9, 1.4 + sum(heights)), dpi=100, layout="constrained")
    above, below = figure.subplots(2, height_ratios=heights, sharex=True)
    mesh = _draw_shares(above, compaction)
    gap = 0.08 / heights[0]  # of the height beside the bar
    bar = figure.colorbar(mesh, ax=above, location="top", aspect=40, shrink=0.5, pad=gap, format=PERCENT)
    bar.set_label("rows that are not masked", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _draw_macs(below, compaction)
    return figure


def _edges(steps: Sequence[int]) -> list[int]:
    """From where to where every column goes: one ahead of the first update, then one per update, in steps."""
    known = [0, *steps]
    return [*known, known[-1] + max(1, known[-1] - known[-2] if steps else 1)]


def _draw_shares(axes: Axes, compaction: Compaction) -> QuadMesh:
    """Layers from top to bottom, one unit each; the mesh."""
    count = len(compaction.rows)
    shares = np.hstack([np.ones((count, 1)), compaction.shares])
    edges = np.arange(count + 1) - 0.5
    mesh = axes.pcolormesh(_edges(compaction.steps), edges, shares, cmap=SHARES, vmin=0, vmax=1, rasterized=True)
    axes.set_yticks(range(count), [_short(each["group"]) for each in compaction.rows], fontsize=7)
    axes.set_ylim(count - 0.5, -0.5)
    stayed = axes.secondary_yaxis("right")
    stayed.set_yticks(range(count), [f"{each['kept']:,} of {each['rows']:,}" for each in compaction.rows], fontsize=7)
    stayed.set_ylabel("rows kept", fontsize=8)
    for side in (axes, stayed):
        side.tick_params(axis="y", length=0)
    return mesh


def _draw_macs(axes: Axes, compaction: Compaction) -> None:
    edges, dense = _edges(compaction.steps), compaction.dense_macs
    curves = [("dead", "macs_by_norm", KEPT, 2.5), ("masked", "macs_by_mask", REMOVED, 1.2)]  # thin over thick
    for kind, key, colour, width in curves:
        left = np.array([dense, *compaction.history[key]]) / dense
        axes.step(edges, [*left, left[-1]], where="post", color=colour, linewidth=width, label=f"without {kind} rows")
    share = compaction.target_macs / dense
    axes.axhline(share, color="black", linestyle="--", linewidth=1, label=f"target: {100 * share:.1f} %")
    axes.axhline(1, color=BEFORE, linewidth=1, zorder=0)
    axes.set(xlabel="optimizer steps", ylabel="MACs left", xlim=(0, edges[-1]), ylim=(0, 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(PERCENT)
    without_frame(axes)
    axes.legend(loc="lower left", frameon=False, fontsize=8)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
