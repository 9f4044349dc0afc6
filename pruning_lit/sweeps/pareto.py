"""The picture of a sweep: primary metric against the MACs, parameters and latency that are left."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pruning_lit.records.primary import Primary
from pruning_lit.reports.plots import without_frame
from pruning_lit.reports.wording import wrapped
from pruning_lit.sweeps.labels import Label, by_place
from pruning_lit.sweeps.spread import Combination, dense_spread

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
DENSE = "#7F7F7F"
MARKERS = "oD^vPX*<"
COSTS = {
    "macs_reduction": "MACs left, % of the dense network",
    "params_reduction": "parameters left, % of the dense network",
    "latency_reduction": "measured latency left, % of the dense network",
}
DASHES = ("-", "--", ":", "-.")
WIDTH = 14  # inches
LONGEST_NAME = 44  # letters of a line's name, on each of two lines

Members = Sequence[tuple[Label, Combination]]
Styles = dict[str, dict[str, Any]]  # name of a line to how it is drawn


def pareto_figure(combinations: Sequence[Combination]) -> Figure:
    """The primary metric against MACs, parameters and measured latency: a row of panels per network and data set.

    A point is the mean over seeds, its bars the sample standard deviations, the pale points the single seeds; the line
    of a method goes from its lightest cut to its deepest. The dashed line, with a square at 100 %, is the dense
    network, in a band of its standard deviation.

    Raises:
        ValueError: no combination has both.
    """
    drawn = [each for each in combinations if each.spread("primary") and each.spread("macs_reduction")]
    if not drawn:
        raise ValueError("a picture of a metric against MACs needs a finished job with both, got none")
    places = by_place(drawn)
    styles = _styles([label for members in places.values() for label, _ in members])
    names = [wrapped(name, LONGEST_NAME) for name in ("dense", *styles)]
    columns, above = _legend_size(names)
    figure = Figure(figsize=(WIDTH, above + 4.2 * len(places)), dpi=110, layout="constrained")
    panels = figure.subplots(len(places), len(COSTS), squeeze=False, sharey="row")
    for row, (place, members) in zip(panels, places.items(), strict=True):
        for axes, (cost, text) in zip(row, COSTS.items(), strict=True):
            _draw_dense(axes, members)
            _draw_lines(axes, members, cost, styles)
            axes.set_xlabel(text)
            axes.grid(alpha=0.25)
            without_frame(axes)
        row[0].set_ylabel(axis_title(members[0][1].primary))
        row[0].set_title(place, loc="left", fontweight="bold")
    _name_lines(figure, columns)
    return figure


def axis_title(primary: Primary) -> str:
    """Name of the metric in words, with its unit, and with its direction where lower is better."""
    return ", ".join([primary.title, *["%"] * primary.percent, *["lower is better"] * (not primary.higher_is_better)])


def titles(combinations: Sequence[Combination]) -> str:
    """Names of all primary metrics."""
    return " or ".join(dict.fromkeys(each.primary.title for each in combinations))


def _scale(combination: Combination) -> float:
    return 100 if combination.primary.percent else 1


def _styles(labels: Sequence[Label]) -> Styles:
    """A colour for every line; for more lines than colours one for every method, and dashes tell the settings."""
    names = {label.series: label for label in labels}
    many = len(names) > len(COLOURS)
    methods = list(dict.fromkeys(label.method for label in names.values()))
    settings = list(dict.fromkeys(label.settings for label in names.values()))
    styles = {}
    for number, (name, label) in enumerate(names.items()):
        colour = methods.index(label.method) if many else number
        dash = settings.index(label.settings) if many else 0
        styles[name] = {"color": COLOURS[colour % len(COLOURS)], "linestyle": DASHES[dash % len(DASHES)]}
        styles[name] |= {"marker": MARKERS[(dash if many else number) % len(MARKERS)]}
    return styles


def _legend_size(names: Sequence[str]) -> tuple[int, float]:
    """Columns that fit, and the height in inches of the legend and of what else is not panels."""
    lines = [name.splitlines() for name in names]
    columns = max(1, min(6, int(WIDTH / (0.8 + 0.075 * max(len(line) for name in lines for line in name)))))
    rows = -(-len(names) // columns)
    return columns, 0.5 + 0.16 * rows * max(map(len, lines)) + 0.05 * rows


def _draw_dense(axes: Axes, members: Members) -> None:
    dense = dense_spread((combination for _, combination in members), "primary_before")
    if dense is None:
        return
    scale = _scale(members[0][1])
    mean, deviation = scale * dense.mean, scale * (dense.deviation or 0)
    axes.axhspan(mean - deviation, mean + deviation, color=DENSE, alpha=0.15, linewidth=0, zorder=0)
    axes.axhline(mean, color=DENSE, linestyle="--", linewidth=1, zorder=0)
    axes.plot(100, mean, color=DENSE, linestyle="--", linewidth=1, marker="s", label="dense")


def _draw_lines(axes: Axes, members: Members, cost: str, styles: Styles) -> None:
    """The combinations of every method whose ``cost`` is known."""
    lines: dict[str, list[Combination]] = {}
    for label, combination in members:
        if combination.spread(cost):
            lines.setdefault(label.series, []).append(combination)
    for name, line in lines.items():
        for each in line:
            _draw_seeds(axes, each, cost, styles[name]["color"])
        points = sorted((_point(each, cost) for each in line), key=lambda point: point[0])
        _, costs, values, wide, high = zip(*points, strict=True)
        axes.errorbar(
            costs, values, high, wide, **styles[name], markersize=6.5, markeredgecolor="white", markeredgewidth=0.7,
            linewidth=1.4, elinewidth=1, capsize=2.5, label=wrapped(name, LONGEST_NAME),
        )  # fmt: skip
    if not lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=DENSE)


def _draw_seeds(axes: Axes, combination: Combination, cost: str, colour: str) -> None:
    known = [row for row in combination.rows if row["primary"] is not None and row[cost] is not None]
    if len(known) > 1:
        scale = _scale(combination)
        left, values = zip(*((100 * (1 - row[cost]), scale * row["primary"]) for row in known), strict=True)
        axes.scatter(left, values, color=colour, alpha=0.3, s=12, linewidths=0)


def _point(combination: Combination, cost: str) -> tuple[float, ...]:
    """MACs gone, then in per cent: the cost that is left, the primary metric, and the deviations of the two."""
    depth, gone, value = (combination.spread(column) for column in ("macs_reduction", cost, "primary"))
    assert depth is not None
    assert gone is not None
    assert value is not None
    scale = _scale(combination)
    deviations = 100 * (gone.deviation or 0), scale * (value.deviation or 0)
    return depth.mean, 100 * (1 - gone.mean), scale * value.mean, *deviations


def _name_lines(figure: Figure, columns: int) -> None:
    """One legend for all panels, above them."""
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
