"""Section on redundancy graphs: how alike the maps of a layer's filters are, and what was decided from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Self

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pruning_lit.records.cut import CutRecord
from pruning_lit.reports.plots import KEPT, PROTECTED, REMOVED
from pruning_lit.reports.wording import markdown_table

COLUMNS = 6  # panels in a row
SIDE = 256  # cells of a drawn matrix, at most
UNRELATED = 0.5  # how often the bits of unrelated maps agree
FRAME = "#009E73"  # of the palette of the other pictures
THIN = 0.4  # points, of lines in large matrices
COMPONENT = "component; its survivor may be in a later one"
LONGEST_NAME = 36  # letters in the title of a panel
WHY = """\
Two filters are neighbours where at least the threshold's share of the bits that describe their feature maps agree; in
rounds, the filters with the closest neighbourhood, the innermost core, fall apart into connected components, and each
of these shrinks to the one filter with the largest weights, until there are no neighbours left. What is in no component
stays. A map is described by at most 64 bits, a small one by fewer, and with few bits more look alike."""
PICTURE = "how alike the feature maps of every layer are, by component"
COUNTS = {  # in the table, by heading
    "pixels": "pixels",
    "filters": "filters",
    "cores": "cores",
    "components": "components",
    "in none": "alone",
    "stay": "kept",
}


@dataclass(frozen=True)
class DecidedLayer:
    """A group of channels that was thinned out by a redundancy graph.

    Attributes:
        name: of the group.
        reference_layer: the layer whose maps were compared.
        similarity: of every pair of channels, shape ``(C, C)``, symmetric, 1 on the diagonal.
        threshold: from which similarity on two channels were neighbours.
        rounds: of the decomposition, in order; each has ``components``, lists of positions, and ``kept``, of each
            component the position that stayed.
        kept: positions that stayed in the end; floors may keep more than the rounds did.
        pixels: of a map; 0: not known.
    """

    name: str
    reference_layer: str
    similarity: Tensor
    threshold: float
    rounds: Sequence[Mapping[str, Any]]
    kept: Sequence[int]
    pixels: int = 0

    @classmethod
    def of(cls, name: str, kept: Sequence[int], evidence: Mapping[str, Any]) -> Self:
        """From the evidence in a record of a cut; the reference layer was called decider."""
        return cls(name, kept=kept, **{{"decider": "reference_layer"}.get(key, key): evidence[key] for key in evidence})

    @property
    def alone(self) -> int:
        """Number of channels that were in no component."""
        return len(self.similarity) - sum(map(len, self.blocks))

    @property
    def cores(self) -> int:
        """Number of innermost cores that were thinned out, one per round."""
        return len(self.rounds)

    @property
    def components(self) -> int:
        """Number of connected components of all these cores."""
        return sum(len(each["components"]) for each in self.rounds)

    @property
    def blocks(self) -> list[list[int]]:
        """Positions by component, in order of the rounds, the survivor first.

        A position stands in the component it went with; one that never went, in the last that it survived. So a block
        lacks its survivor where a later round had that one, too.
        """
        pairs = [pair for each in self.rounds for pair in zip(each["components"], each["kept"], strict=True)]
        last = {position: number for number, (component, _) in enumerate(pairs) for position in component}
        return [
            sorted((each for each in component if last[each] == number), key=lambda each: (each != survivor, each))
            for number, (component, survivor) in enumerate(pairs)
        ]

    @property
    def order(self) -> list[int]:
        """All positions: block after block, then those that were in no component."""
        found = [position for block in self.blocks for position in block]
        return found + sorted({*range(len(self.similarity))} - {*found})

    def data(self) -> dict[str, Any]:
        """Numbers for the report: of so many ``filters``, those ``alone``, in no component, those ``kept``."""
        return {
            "group": self.name,
            "reference_layer": self.reference_layer,
            "threshold": self.threshold,
            "pixels": self.pixels,
            "filters": len(self.similarity),
            "alone": self.alone,
            "cores": self.cores,
            "components": self.components,
            "kept": len(self.kept),
        }


@dataclass(frozen=True)
class RedundancySection:
    """Section "Why channels went".

    Args:
        layers: at least one.
    """

    layers: Sequence[DecidedLayer]
    name: ClassVar[str] = "redundancy"

    @classmethod
    def of(cls, cuts: Sequence[CutRecord]) -> Self | None:
        """The groups that redundancy graphs decided on in the last cut that was made so."""
        for cut in reversed(cuts):
            if evidence := cut.details.get(cls.name):
                return cls([DecidedLayer.of(name, cut.kept[name], known) for name, known in evidence.items()])
        return None

    def data(self) -> list[dict[str, Any]]:
        """Numbers of every layer."""
        return [layer.data() for layer in self.layers]

    def markdown(self, picture: str | None) -> str:
        """A table; groups are named where one is not called as the layer that decides for it."""
        decided = self.data()
        named = any(each["group"] != each["reference_layer"] for each in decided)
        header = ["layer that decides", *["group"] * named, "threshold", *COUNTS]
        rows = [
            [f"`{each['reference_layer']}`", *[f"`{each['group']}`"] * named, f"{each['threshold']:.4g}"]
            + [str(each[key]) for key in COUNTS.values()]
            for each in decided
        ]
        image = [f"![{PICTURE}]({picture})"] * (picture is not None)
        return "\n\n".join(["## Why channels went", WHY, "\n".join(markdown_table(header, rows)), *image])

    def figure(self) -> Figure:
        """Similarities of the channels of every layer, one panel per layer, channels of one component side by side.

        Frames are around the components, in the order in which they shrank; the strip at the left says which channels
        stayed. Matrices of more than 256 channels are drawn as means over blocks.
        """
        layers = self.layers
        columns = min(COLUMNS, len(layers))
        rows, side = math.ceil(len(layers) / columns), min(4.2, max(2.1, 9 / columns))  # inches
        figure = Figure(figsize=(1.1 + side * columns, 0.3 + (side + 0.35) * rows), dpi=100, layout="constrained")
        grid = figure.add_gridspec(rows, columns)
        panels = [figure.add_subplot(grid[divmod(number, columns)]) for number in range(len(layers))]
        lowest = min(UNRELATED, min(layer.threshold for layer in layers) - 0.1)
        image = [_draw(axes, layer, lowest) for axes, layer in zip(panels, layers, strict=True)][-1]
        bar = figure.colorbar(image, ax=panels, shrink=0.8 / rows, aspect=15, anchor=(0, 1))
        bar.set_label("share of bits that agree", fontsize=8)
        bar.ax.tick_params(labelsize=7)
        for threshold in {layer.threshold for layer in layers}:
            bar.ax.axhline(threshold, color=FRAME)
        marks: list[Artist] = [Patch(color=KEPT, label="kept"), Patch(color=REMOVED, label="removed")]
        marks.append(Patch(facecolor="none", edgecolor=FRAME, label=COMPONENT))
        marks.append(Line2D([], [], color=FRAME, label="threshold (at the scale)"))
        figure.legend(handles=marks, loc="outside upper left", ncols=len(marks), frameon=False, fontsize=8)
        return figure


def _draw(axes: Axes, layer: DecidedLayer, lowest: float) -> AxesImage:
    """Matrix, frames and strip of one layer, in units of channels; the image of the matrix, white at ``lowest``."""
    order, size = layer.order, len(layer.similarity)
    step = math.ceil(size / SIDE)  # channels in a cell
    means = avg_pool2d(layer.similarity.float()[order][:, order][None], step, ceil_mode=True)[0]
    edge = step * len(means)  # beyond the last channel where the last cell is not full
    image = axes.imshow(means.numpy(), cmap="Greys", vmin=lowest, vmax=1, extent=(0, edge, edge, 0), rasterized=True)
    stayed = {*layer.kept}
    strip = np.array([[to_rgb(KEPT if position in stayed else REMOVED)] for position in order])
    axes.imshow(strip, extent=(-0.08 * size, -0.02 * size, size, 0), rasterized=True)
    axes.add_patch(Rectangle((0, 0), size, size, facecolor="none", edgecolor=PROTECTED, linewidth=THIN, clip_on=False))
    axes.add_collection(_frames(layer.blocks, max(THIN, min(0.8, 50 / size))))
    axes.set(xlim=(-0.08 * size, size), ylim=(size, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(_title(layer), fontsize=7)
    return image


def _frames(blocks: Sequence[Sequence[int]], linewidth: float) -> PatchCollection:
    """Squares along the diagonal, one per block; lines of so many points."""
    ends = accumulate(len(block) for block in blocks)
    squares = [Rectangle((end - len(block),) * 2, *(len(block),) * 2) for end, block in zip(ends, blocks, strict=True)]
    return PatchCollection(squares, facecolor="none", edgecolor=FRAME, linewidth=linewidth, rasterized=True)


def _title(layer: DecidedLayer) -> str:
    name = layer.name if len(layer.name) <= LONGEST_NAME else f"…{layer.name[1 - LONGEST_NAME :]}"
    cores = f"{layer.cores} core{'s' * (layer.cores != 1)}"
    components = f"{layer.components} component{'s' * (layer.components != 1)}"
    return f"{name}\n{len(layer.similarity)} → {len(layer.kept)}\n{cores}, {components}"
