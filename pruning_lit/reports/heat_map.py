"""A heat map of a course of training: which share of every layer's channels is left, from moment to moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from pruning_lit.reports.plots import BEFORE, KEPT, without_frame

# from none to all channels, in the colours that removed and kept channels have in the picture of the widths
SHARES = LinearSegmentedColormap.from_list("shares", ["#F7F7F7", "#9CCBE8", KEPT, "#00263D"])
PERCENT = PercentFormatter(1, symbol=" %")
ROW = 0.16  # inches, of a layer
LONGEST_NAME = 36  # letters of a layer's name


@dataclass(frozen=True)
class HeatMap:
    """Shares of channels to draw, by layer and moment.

    Attributes:
        names: of the layers, from top to bottom.
        edges: from where to where every column goes, ascending, one more than there are columns.
        shares: 0 to 1, shape ``(layers, columns)``.
        label: what they are shares of.
        beside: a text beside every layer.
        beside_label: what these texts say.
    """

    names: Sequence[str]
    edges: Sequence[int]
    shares: NDArray[np.float64]
    label: str
    beside: Sequence[str]
    beside_label: str


def heat_map_figure(drawn: HeatMap, below: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A picture with the heat map above, and empty panels below it that share its horizontal axis.

    Args:
        drawn: at least one layer; the picture grows with their number, so 60 layers stay readable.
        below: heights of the panels, in inches.

    Returns:
        The picture, and the panels from top to bottom.
    """
    heights = [max(0.8, ROW * len(drawn.names)), *below]  # inches
    figure = Figure(figsize=(9, 1.4 + sum(heights)), dpi=100, layout="constrained")
    above, *panels = figure.subplots(len(heights), height_ratios=heights, sharex=True)
    mesh = draw(above, drawn)
    gap = 0.08 / heights[0]  # of the height beside the bar
    bar = figure.colorbar(mesh, ax=above, location="top", aspect=40, shrink=0.5, pad=gap, format=PERCENT)
    bar.set_label(drawn.label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure, panels


def prepare_macs(axes: Axes, label: str) -> None:
    """Make a panel one of multiply-accumulates as shares of the dense network's."""
    axes.axhline(1, color=BEFORE, linewidth=1, zorder=0)
    axes.set(ylabel=label, ylim=(0, 1.05))
    axes.yaxis.set_major_formatter(PERCENT)
    without_frame(axes)


def legend_above(axes: Axes) -> None:
    """Put the legend of a panel above it, in one row, where nothing is drawn."""
    columns = len(axes.get_legend_handles_labels()[1])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=columns, frameon=False, fontsize=8)


def prepare_time(axes: Axes, edges: Sequence[int], unit: str) -> None:
    """Give the lowest panel the axis of all: moments counted in ``unit``, such as optimizer steps."""
    axes.set(xlabel=unit, xlim=(0, edges[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def draw(axes: Axes, drawn: HeatMap) -> QuadMesh:
    """Draw layers from top to bottom, one unit each; the mesh."""
    count = len(drawn.names)
    limits = np.arange(count + 1) - 0.5
    mesh = axes.pcolormesh(drawn.edges, limits, drawn.shares, cmap=SHARES, vmin=0, vmax=1, rasterized=True)
    axes.set_yticks(range(count), [_short(name) for name in drawn.names], fontsize=7)
    axes.set_ylim(count - 0.5, -0.5)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(count), drawn.beside, fontsize=7)
    beside.set_ylabel(drawn.beside_label, fontsize=8)
    for side in (axes, beside):
        side.tick_params(axis="y", length=0)
    return mesh


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
