"""The picture of a sweep: accuracy against the MACs that are left, a line per method."""

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pruning_lit.report.spread import Combination, spread

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
DENSE = "#7F7F7F"
MARKERS = "oD^vPX*<"


def pareto_figure(combinations: Sequence[Combination]) -> Figure:
    """Accuracy against MACs left, in per cent: one panel per network and data set, one line per method.

    A point is the mean over seeds, its bars the sample standard deviation, the pale points the single seeds; the dashed
    line, with a square at 100 %, is the dense network.

    Raises:
        ValueError: no combination has an accuracy.
    """
    drawn = [each for each in combinations if each.spread("accuracy") and each.spread("macs_reduction")]
    if not drawn:
        raise ValueError("a picture of accuracy against MACs needs a finished job with both, got none")
    panels: dict[tuple[str, str], list[Combination]] = {}
    for each in drawn:
        panels.setdefault((each.key["arch"], each.key["dataset"]), []).append(each)
    figure = Figure(figsize=(7 * len(panels), 4.8), dpi=120, layout="constrained")
    names = dict.fromkeys(_series(each) for each in drawn)
    styles = dict(zip(names, zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))
    for axes, (place, members) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name in dict.fromkeys(_series(each) for each in members):
            _draw(axes, name, [each for each in members if _series(each) == name], *styles[name])
        _finish(axes, " on ".join(filter(None, place)), members)
    return figure


def _series(combination: Combination) -> str:
    """The name of the line a combination is on; settings of the sparsity move along a line."""
    settings = [each for each in combination.key["settings"].split() if not each.startswith("sparsity.")]
    return ", ".join(filter(None, [combination.method, *settings])) or "pruned"


def _draw(axes: Axes, name: str, members: list[Combination], colour: str, marker: str) -> None:
    points = []
    for each in members:
        gone, accuracy = each.spread("macs_reduction"), each.spread("accuracy")
        assert gone is not None
        assert accuracy is not None
        points.append((100 * (1 - gone.mean), 100 * accuracy.mean, 100 * (accuracy.deviation or 0)))
        if accuracy.num > 1:
            known = [row for row in each.rows if row["accuracy"] is not None]
            left = [100 * (1 - row["macs_reduction"]) for row in known]
            axes.scatter(left, [100 * row["accuracy"] for row in known], color=colour, alpha=0.3, s=14, linewidths=0)
    macs, accuracies, deviations = zip(*sorted(points), strict=True)
    axes.errorbar(macs, accuracies, deviations, color=colour, marker=marker, markersize=6, capsize=3, label=name)


def _finish(axes: Axes, title: str, members: list[Combination]) -> None:
    runs = {(row["seed"], row["accuracy_before"]) for each in members for row in each.rows}  # methods share dense runs
    if dense := spread(accuracy for _, accuracy in runs):
        axes.axhline(100 * dense.mean, color=DENSE, linestyle="--", linewidth=1, zorder=0)
        axes.plot(100, 100 * dense.mean, color=DENSE, linestyle="--", linewidth=1, marker="s", label="dense")
    axes.set(title=title, xlabel="MACs left, % of the dense network", ylabel="accuracy, %")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
