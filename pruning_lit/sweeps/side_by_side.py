"""The widths of several pruned networks side by side: which share of every group's channels is left in each."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pruning_lit.reports.heat_map import PERCENT, ROW, HeatMap, draw
from pruning_lit.reports.wording import wrapped
from pruning_lit.sweeps.labels import Label, by_place
from pruning_lit.sweeps.spread import Combination

SPELLED_OUT = 12  # networks; of more, the cells hold no numbers
COLUMN, NARROW_COLUMN = 0.52, 0.27  # inches
BESIDE = 3.1  # inches, of names and sizes
LONGEST_LABEL = 40  # letters, on each of two lines

Sizes = tuple[tuple[str, int], ...]  # groups in the order of the network, and their dense numbers of channels
Panel = list[tuple[Label, Combination]]


def comparable(combinations: Sequence[Combination]) -> dict[tuple[str, Sizes], Panel]:
    """Panels of comparable networks: those of one place with the same groups of channels, seeds included."""
    panels: dict[tuple[str, Sizes], Panel] = {}
    for place, members in by_place(combinations).items():
        for label, combination in members:
            sizes = {tuple((name, size) for name, (size, _) in row["widths"].items()) for row in combination.rows}
            if len(sizes) == 1 and (groups := sizes.pop()):
                panels.setdefault((place, groups), []).append((label, combination))
    return panels


def side_by_side_figure(combinations: Sequence[Combination]) -> Figure:
    """A heat map per place: groups from top to bottom, a column per combination, the mean over its seeds.

    Raises:
        ValueError: no combination says what became of its groups.
    """
    panels = comparable(combinations)
    if not panels:
        raise ValueError("a picture of widths side by side needs a finished job that has recorded them, got none")
    heights = [_height(groups, members) for (_, groups), members in panels.items()]  # inches
    width = BESIDE + max(3.0, *(len(members) * _column(members) for members in panels.values()))
    figure = Figure(figsize=(width, sum(heights)), dpi=110, layout="constrained")
    parts = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, ((place, groups), members) in zip(parts, panels.items(), strict=True):
        axes = part.subplots()
        _draw(axes, groups, members)
        axes.set_title(place, fontsize=11, pad=10)
    return figure


def _height(groups: Sizes, members: Panel) -> float:
    longest = max(len(line) for label, _ in members for line in _text(label).splitlines())
    return 1.3 + max(0.8, ROW * len(groups)) + 0.075 * longest  # the scale, the groups, the labels


def _column(members: Panel) -> float:
    return COLUMN if len(members) <= SPELLED_OUT else NARROW_COLUMN


def _text(label: Label) -> str:
    return wrapped(str(label), LONGEST_LABEL)


def _draw(axes: Axes, groups: Sizes, members: Panel) -> None:
    names, sizes = zip(*groups, strict=True)
    shares = np.array([_shares(combination) for _, combination in members]).T
    drawn = HeatMap(names, range(len(members) + 1), shares, "channels left", list(map(str, sizes)), "dense channels")
    mesh = draw(axes, drawn)
    axes.set_xticks([0.5 + each for each in range(len(members))], [_text(label) for label, _ in members], fontsize=7)
    axes.tick_params(axis="x", length=0, rotation=90)
    for edge, ((left, _), (right, _)) in enumerate(pairwise(members), start=1):
        axes.axvline(edge, color="white", linewidth=0.5 if left.series == right.series else 3)
    if len(members) <= SPELLED_OUT:
        _spell_out(axes, shares)
    bar = axes.figure.colorbar(mesh, ax=axes, location="top", aspect=40, shrink=0.5, format=PERCENT)
    bar.set_label(drawn.label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _shares(combination: Combination) -> NDArray[np.float64]:
    """Mean over the seeds of the share of channels that is left, group by group."""
    per_seed = [[kept / size for size, kept in row["widths"].values()] for row in combination.rows]
    return np.mean(per_seed, axis=0)


def _spell_out(axes: Axes, shares: NDArray[np.float64]) -> None:
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 else "black"
        axes.text(column + 0.5, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=colour)
