"""Pictures of a pruned network: widths per layer, scores of one layer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pruning_lit.report.atomic import replacing
from pruning_lit.report.record import GroupRecord

# Okabe and Ito's palette: told apart by colour-blind readers, too
KEPT, REMOVED, PROTECTED, BEFORE = "#0072B2", "#D55E00", "#7F7F7F", "#DDDDDD"


def widths_figure(groups: Sequence[GroupRecord]) -> Figure:
    """Channels of every layer before and after, one horizontal bar per group, in the order of the network.

    Args:
        groups: what became of each group; the figure grows with their number, so 60 layers stay readable.

    Raises:
        ValueError: there are no groups.
    """
    if not groups:
        raise ValueError("a picture of the widths needs at least one group of channels, got none")
    figure = Figure(figsize=(8, 1.2 + 0.2 * len(groups)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    rows, sizes, kept = range(len(groups)), [each.size for each in groups], [each.kept for each in groups]
    colours = [KEPT if each.protected is None else PROTECTED for each in groups]
    axes.barh(rows, sizes, height=0.8, color=BEFORE)
    axes.barh(rows, kept, height=0.8, color=colours)
    widest = max(sizes)
    for row, group in enumerate(groups):
        text = str(group.size) if group.kept == group.size else f"{group.kept} of {group.size}"
        axes.text(group.size + 0.01 * widest, row, text, va="center", fontsize=7)
    axes.set_yticks(rows, [each.name for each in groups], fontsize=7)
    axes.set(xlabel="channels", xlim=(0, 1.14 * widest), ylim=(len(groups) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _without_frame(axes)
    legend = [Patch(color=KEPT, label="kept"), Patch(color=BEFORE, label="removed")]
    if PROTECTED in colours:
        legend.append(Patch(color=PROTECTED, label="protected"))
    figure.legend(handles=legend, loc="outside upper left", ncols=len(legend), frameon=False, fontsize=8)
    return figure


def scores_figure(name: str, scores: Sequence[float], kept: Sequence[int]) -> Figure:
    """The scores of one layer in falling order, kept and removed channels in two colours.

    Args:
        name: the layer, for the title.
        scores: one per channel, shape ``(C,)``; those that are not finite have no line.
        kept: positions of the channels that stay.

    Raises:
        ValueError: there are no scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        raise ValueError(f"a picture of the scores of {name!r} needs at least one score, got none")
    order = np.argsort(-values, kind="stable")
    stays = np.isin(order, np.asarray(kept, dtype=np.int64))
    heights = np.where(np.isfinite(values[order]), values[order], np.nan)
    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    ranks = np.arange(1, len(values) + 1)
    thickness = max(0.75, min(24, 380 / len(values)))  # points; the axes are about 500 points wide
    colours = np.where(stays, KEPT, REMOVED).tolist()  # one call: neither colour lies on top where lines are dense
    axes.vlines(ranks, 0, heights, colors=colours, linewidth=thickness, capstyle="butt")
    axes.axhline(0, color="black", linewidth=0.6)
    if np.nanmin(heights, initial=0) >= 0:
        axes.set_ylim(bottom=0)
    axes.set(title=name, xlabel="channels, best first", ylabel="score", xlim=(0, len(values) + 1))
    _without_frame(axes)
    counts = {f"kept ({stays.sum()})": KEPT, f"removed ({(~stays).sum()})": REMOVED}
    axes.legend(handles=[Patch(color=colour, label=label) for label, colour in counts.items()], frameon=False)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure to ``path``, whole or not at all; the suffix says the format (``.png``, ``.svg``, ``.pdf``)."""
    with replacing(path) as draft:
        figure.savefig(draft)


def figure_to_image(figure: Figure) -> NDArray[np.uint8]:
    """The figure as pixels, shape ``(height, width, 3)``, uint8, for TensorBoard's ``add_image(dataformats="HWC")``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _without_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
