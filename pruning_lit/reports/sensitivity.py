"""Table and picture of the sensitivity of groups."""

import math
from collections.abc import Mapping
from dataclasses import replace
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
    """One row per group: the metric at each width that was tried.

    First comes the group of which half the channels cost most of the metric, on straight lines between the widths.

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
    for name in sorted(found, key=lambda name: lost_at_half(found[name]), reverse=True):
        points = [f"{point.width}: {primary.format(point.trial.metric)}" for point in found[name].points]
        table.add_row(name, str(found[name].size), "  ".join(points))
    return table


def lost_at_half(sensitivity: Sensitivity) -> tuple[float, float]:
    """Share of the metric that is lost with half of a group's channels; and the drop, which decides between equals."""
    lost = replace(sensitivity, points=[point._replace(drop=point.lost) for point in sensitivity.points])
    return lost.drop(sensitivity.size // 2), sensitivity.drop(sensitivity.size // 2)


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
    pictures = iter(figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat)
    lowest = len(found) - COLUMNS  # from here on nothing stands below
    # the groups first: zip takes one more of what comes first before it sees that there are no more of the others
    for number, ((name, each), axes) in enumerate(zip(found.items(), pictures, strict=False)):
        gone = [0.0, *(1 - point.width / each.size for point in each.points)]
        values = [scale * trial.metric for trial in (whole, *(point.trial for point in each.points))]
        axes.axhline(scale * whole.metric, color=BEFORE, linestyle=":")
        axes.plot([100 * share for share in gone], values, color=KEPT, marker="o", markersize=3, linewidth=1)
        axes.set_title(f"{name} ({each.size})", fontsize=7)
        axes.tick_params(labelsize=7, labelbottom=number >= lowest)
        without_frame(axes)
    for axes in pictures:
        axes.set_visible(False)
    figure.supxlabel("channels removed, %", fontsize=8)
    figure.supylabel(primary.title + (", %" if primary.percent else ""), fontsize=8)
    return figure
