"""Table and picture of the sensitivity of groups."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pruning_lit.records.primary import Primary
from pruning_lit.sparsity.sensitivity import Sensitivity
from pruning_lit.sparsity.trials import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4  # small pictures beside each other


def sensitivity_table(found: Mapping[str, Sensitivity], whole: Trial, primary: Primary) -> Table:
    """One row per group: the metric at each width that was tried, the most sensitive group first.

    Args:
        found: by group.
        whole: outcome of the whole network.
        primary: the metric.
    """
    table = Table(title=f"{primary.title} {primary.format(whole.metric)}, and where one group alone is narrower")
    table.box, table.title_justify = SIMPLE_HEAD, "left"
    table.add_column("group")
    table.add_column("channels", justify="right")
    table.add_column(f"{primary.title} by width")
    half = {name: each.drop(each.size // 2) for name, each in found.items()}
    for name in sorted(found, key=lambda name: -half[name]):
        points = [f"{point.width}: {primary.format(point.trial.metric)}" for point in found[name].points]
        table.add_row(name, str(found[name].size), "  ".join(points))
    return table


def sensitivity_figure(found: Mapping[str, Sensitivity], whole: Trial, primary: Primary) -> "Figure":
    """Small multiples: per group the metric over the share of its channels that is gone.

    Args:
        found: by group.
        whole: outcome of the whole network, a dotted line in each.
        primary: the metric.
    """
    from matplotlib.figure import Figure

    from pruning_lit.reports.plots import BEFORE, KEPT, without_frame

    rows = math.ceil(len(found) / COLUMNS)
    figure = Figure(figsize=(2.4 * COLUMNS, 1.7 * rows + 0.5), dpi=100, layout="constrained")
    scale = 100 if primary.percent else 1
    pictures = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for axes, (name, each) in zip(pictures, found.items(), strict=False):
        gone = [0.0, *(1 - point.width / each.size for point in each.points)]
        values = [scale * trial.metric for trial in (whole, *(point.trial for point in each.points))]
        axes.axhline(scale * whole.metric, color=BEFORE, linestyle=":")
        axes.plot([100 * share for share in gone], values, color=KEPT, marker="o", markersize=3, linewidth=1)
        axes.set_title(f"{name} ({each.size})", fontsize=7)
        axes.tick_params(labelsize=7)
        without_frame(axes)
    for axes in [*pictures]:
        axes.set_visible(False)
    figure.supxlabel("channels removed, %", fontsize=8)
    figure.supylabel(primary.title + (", %" if primary.percent else ""), fontsize=8)
    return figure
