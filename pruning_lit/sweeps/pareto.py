"""The picture of a sweep: primary metric against the MACs, parameters and latency that are left."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pruning_lit.records.primary import Primary
from pruning_lit.reports.plots import named, without_frame
from pruning_lit.reports.wording import NOISY, wrapped
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
MARKER = 6.5  # points, the diameter of a marker
RING = 5  # points by which every further ring around a marker is wider
NEAR = 0.015  # of the extent of a panel: markers that are closer hide each other
LONGEST_NAME = 44  # letters of a line's name, on each of two lines

Members = Sequence[tuple[Label, Combination]]
Styles = dict[str, dict[str, Any]]  # name of a line to how it is drawn


def pareto_figure(combinations: Sequence[Combination]) -> Figure:
    """The primary metric against MACs, parameters and measured latency: a row of panels per network and data set.

    A point is the mean over seeds, its bars the sample standard deviations as far as values go (no share is below 0),
    the pale points the single seeds; the line of a method goes from its lightest cut to its deepest. A ring around a
    point is that of another method in the same place. The dashed line, with a square at 100 %, is the dense network, in
    a band of its standard deviation.

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
            _draw_rings(axes, _draw_lines(axes, members, cost, styles), styles)
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
    mean = scale * dense.mean
    below, above = _bars(mean, scale * (dense.deviation or 0), members[0][1].primary)
    axes.axhspan(mean - below, mean + above, color=DENSE, alpha=0.15, linewidth=0, zorder=0)
    axes.axhline(mean, color=DENSE, linestyle="--", linewidth=1, zorder=0)
    axes.plot(100, mean, color=DENSE, linestyle="--", linewidth=1, marker="s", label="dense")


class Point(NamedTuple):
    """A combination in a panel: what its cut has removed, its place, its bars, by deviation, and what it is."""

    depth: float
    cost: float
    value: float
    left: float
    right: float
    below: float
    above: float
    name: str


def _draw_lines(axes: Axes, members: Members, cost: str, styles: Styles) -> list[tuple[float, float, str]]:
    """Draw the combinations of every method whose ``cost`` is known; their places, and the names of their lines."""
    lines: dict[str, list[tuple[Label, Combination]]] = {}
    places: list[tuple[float, float, str]] = []
    for label, combination in members:
        if combination.spread(cost):
            lines.setdefault(label.series, []).append((label, combination))
    for name, line in lines.items():
        for _, each in line:
            _draw_seeds(axes, each, cost, styles[name]["color"])
        points = sorted((_point(*each, cost) for each in line), key=lambda point: point.depth)
        _, costs, values, left, right, below, above, names = zip(*points, strict=True)
        axes.errorbar(
            costs, values, (below, above), (left, right), **styles[name], markersize=MARKER, markeredgecolor="white",
            markeredgewidth=0.7, linewidth=1.4, elinewidth=1, capsize=2.5, label=wrapped(name, LONGEST_NAME),
        )  # fmt: skip
        _name_points(axes, costs, values, names)
        places += [(*place, name) for place in zip(costs, values, strict=True)]
    noisy = sum(combination.noisy for _, combination in members) if cost == "latency_reduction" else 0
    if noisy:
        told = NOISY if noisy == len(members) else f"{noisy} of {len(members)} {NOISY}"
        axes.text(0.98, 0.02, told, transform=axes.transAxes, ha="right", color=DENSE, fontsize=8)
    elif not lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=DENSE)
    return places


def _draw_rings(axes: Axes, places: Sequence[tuple[float, float, str]], styles: Styles) -> None:
    """Draw a ring around a marker for every other line's that it hides, in the colour of that line."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for number, (x, y, name) in enumerate(places):
        above = (
            {  # lines that are drawn later, over this one
                other
                for u, v, other in places[number + 1 :]
                if abs(x - u) <= NEAR * (right - left) and abs(y - v) <= NEAR * (top - bottom)
            }
            - {name}
        )
        if above:
            axes.plot(
                x, y, "o", markersize=MARKER + RING * len(above), markerfacecolor="none",
                markeredgecolor=styles[name]["color"], markeredgewidth=1.6,
            )  # fmt: skip


def _draw_seeds(axes: Axes, combination: Combination, cost: str, colour: str) -> None:
    known = [row for row in combination.rows if row["primary"] is not None and row[cost] is not None]
    if len(known) > 1:
        scale = _scale(combination)
        left, values = zip(*((100 * (1 - row[cost]), scale * row["primary"]) for row in known), strict=True)
        axes.scatter(left, values, color=colour, alpha=0.3, s=12, linewidths=0)
        _name_points(axes, left, values, [f"job {row['job']}, seed {row['seed']}" for row in known])


def _name_points(axes: Axes, costs: Sequence[float], values: Sequence[float], names: Sequence[str]) -> None:
    """Give points their names, which a drawing shows under the pointer: transparent ones above all bars and lines."""
    axes.scatter(costs, values, s=MARKER**2, alpha=0, zorder=3, urls=[named(each) for each in names])


def _point(label: Label, combination: Combination, cost: str) -> Point:
    """A combination with its bars: one to each side, cut off where no value can be."""
    depth, gone, value = (combination.spread(column) for column in ("macs_reduction", cost, "primary"))
    assert depth is not None
    assert gone is not None
    assert value is not None
    scale = _scale(combination)
    wide, high = 100 * (gone.deviation or 0), scale * (value.deviation or 0)
    x, y = 100 * (1 - gone.mean), scale * value.mean
    jobs = ", ".join(f"{row['job']} (seed {row['seed']})" for row in combination.rows)
    name = f"{label}: {combination.primary.format(value.mean)} at {x:.1f} % of the {cost.split('_')[0]}; job {jobs}"
    return Point(depth.mean, x, y, min(wide, x), wide, *_bars(y, high, combination.primary), name)


def _bars(value: float, deviation: float, primary: Primary) -> tuple[float, float]:
    """Lengths of the bars of a deviation below and above a value; a share in per cent stays between 0 and 100."""
    return (min(deviation, value), min(deviation, 100 - value)) if primary.percent else (deviation, deviation)


def _name_lines(figure: Figure, columns: int) -> None:
    """One legend for all panels, above them."""
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
