"""A picture of a pruned network, its widths per layer, and what all pictures share."""

import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pruning_lit.reports.record import GroupRecord
from pruning_lit.system.atomic import replacing, write_text

# Okabe and Ito's palette: told apart by colour-blind readers, too
KEPT, REMOVED, PROTECTED, BEFORE = "#0072B2", "#D55E00", "#7F7F7F", "#DDDDDD"
HOVER = "hover:"


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
    without_frame(axes)
    legend = [Patch(color=KEPT, label="kept"), Patch(color=BEFORE, label="removed")]
    if PROTECTED in colours:
        legend.append(Patch(color=PROTECTED, label="protected"))
    figure.legend(handles=legend, loc="outside upper left", ncols=len(legend), frameon=False, fontsize=8)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure to ``path``, whole or not at all; the suffix says the format (``.png``, ``.svg``, ``.pdf``)."""
    with replacing(path) as draft:
        figure.savefig(draft)


def named(text: str) -> str:
    """The address by which a point of a figure carries its name, which ``save_drawing`` shows."""
    return HOVER + quote(text, safe="")


def save_drawing(figure: Figure, path: str | Path) -> None:
    """Write the figure as SVG, in which points with names, ``urls=[named(…)]``, show them under the pointer."""
    written = io.StringIO()
    with rc_context({"svg.hashsalt": "pruning_lit"}):  # the same figure, the same file
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = re.sub(
        rf'<a xlink:href="{HOVER}([^"]*)"[^>]*>(.*?)</a>',
        # also points that are drawn by something else, and are themselves transparent
        lambda found: f'<g pointer-events="all"><title>{escape(unquote(found[1]))}</title>{found[2]}</g>',
        written.getvalue(),
        flags=re.DOTALL,
    )
    write_text(path, drawing)


def figure_to_image(figure: Figure) -> NDArray[np.uint8]:
    """The figure as pixels, shape ``(height, width, 3)``, uint8, for TensorBoard's ``add_image(dataformats="HWC")``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def without_frame(axes: Axes) -> None:
    """Leave out the lines above and to the right."""
    axes.spines[["top", "right"]].set_visible(False)
