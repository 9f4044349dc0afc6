"""The pictures of a sweep, as far as the figures are known."""

from collections.abc import Sequence
from pathlib import Path

from pruning_lit.reports.document import WIDTHS_NAME
from pruning_lit.reports.plots import save, save_drawing
from pruning_lit.sweeps.pareto import pareto_figure, titles
from pruning_lit.sweeps.side_by_side import comparable, side_by_side_figure
from pruning_lit.sweeps.spread import Combination

PARETO_NAME = "pareto.png"


def draw(combinations: Sequence[Combination], out: Path) -> dict[str, str]:
    """Draw what can be drawn; what each file shows. Of the first there is a drawing, too, whose points have names."""
    shown = {}
    if any(each.spread("primary") and each.spread("macs_reduction") for each in combinations):
        pareto = pareto_figure(combinations)
        save(pareto, out / PARETO_NAME)
        save_drawing(pareto, (out / PARETO_NAME).with_suffix(".svg"))
        shown[PARETO_NAME] = f"{titles(combinations)} against the MACs, parameters and latency that are left"
    if comparable(combinations):
        save(side_by_side_figure(combinations), out / WIDTHS_NAME)
        shown[WIDTHS_NAME] = "share of the channels that are left, by group"
    return shown
