"""Picture of the training: loss and primary metric over the epochs of all phases."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pruning_lit.records.primary import Primary
from pruning_lit.reports.plots import KEPT, PROTECTED, REMOVED, without_frame

PARTS = {"train": ("training", KEPT, "-"), "val": ("validation", REMOVED, "--")}


def curves_figure(lines: Sequence[Sequence[str]], primary: Primary) -> Figure | None:
    """Loss and primary metric, epoch by epoch, phase behind phase.

    Args:
        lines: of ``metrics.csv``: phase, epoch, step, name, value.
        primary: the metric beside the loss; detectors have it on validation images only.

    Returns:
        None where no epoch has left figures.
    """
    starts, length = list[tuple[str, int]](), 0
    figures: dict[str, list[tuple[int, float]]] = {}
    for phase, members in groupby(lines, key=lambda line: line[0]):
        starts.append((phase, length))
        rows = [(int(epoch), name, float(value)) for _, epoch, _, name, value in members]
        for epoch, name, value in rows:
            figures.setdefault(name, []).append((length + epoch + 1, value))
        length += 1 + max(epoch for epoch, _, _ in rows)
    scale = 100 if primary.percent else 1
    titles = {"loss": "loss", primary.name: primary.title + ", %" * primary.percent}
    drawn = {name: title for name, title in titles.items() if any(f"{part}/{name}" in figures for part in PARTS)}
    if not drawn:
        return None
    figure = Figure(figsize=(4.6 * len(drawn), 3.2), dpi=100, layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        for part, (label, colour, dashes) in PARTS.items():
            if points := figures.get(f"{part}/{name}"):
                epochs, values = zip(*points, strict=True)
                shown = [value * (1 if name == "loss" else scale) for value in values]
                axes.plot(epochs, shown, dashes, color=colour, label=label, marker="." if length < 30 else "")
        _mark_phases(axes, starts)
        axes.set(xlabel="epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
        without_frame(axes)
    return figure


def _mark_phases(axes: Axes, starts: Sequence[tuple[str, int]]) -> None:
    """A line where a phase begins, and its name above."""
    for name, start in starts if len(starts) > 1 else ():
        axes.axvline(start + 0.5, color=PROTECTED, linestyle=":", linewidth=1)
        place: dict[str, Any] = {
            "transform": axes.get_xaxis_transform(),
            "va": "bottom",
            "fontsize": 8,
            "color": PROTECTED,
        }
        axes.text(start + 0.6, 1.0, name, **place)
