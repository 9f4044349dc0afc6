"""Section on the threshold among all scores: the scores in order, and what became of their channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pruning_lit.records.cut import CutRecord
from pruning_lit.reports.plots import KEPT, REMOVED, without_frame

KEPT_BELOW, REMOVED_ABOVE = "#009E73", "#E69F00"  # of the palette of the other pictures
SMALLEST = 1e-6  # of the largest score; what is smaller, zeros among it, is drawn there


@dataclass(frozen=True)
class ThresholdCut:
    """A cut that one threshold has decided.

    Attributes:
        scores: of every group, shape ``(size,)``, not negative.
        kept: positions that stayed in each of the groups that could lose some.
        threshold: the largest score that was to go.
    """

    scores: Mapping[str, Tensor]
    kept: Mapping[str, Sequence[int]]
    threshold: float

    def sorted(self) -> tuple[Tensor, Tensor]:
        """All scores, ascending, and whether their channels stayed; both of shape ``(count,)``."""
        stays = [
            torch.isin(torch.arange(len(self.scores[name])), torch.tensor(kept)) for name, kept in self.kept.items()
        ]
        values, order = torch.cat([self.scores[name].double() for name in self.kept]).sort(stable=True)
        return values, torch.cat(stays)[order]


@dataclass(frozen=True)
class ScoresSection:
    """Section "Scores and the threshold".

    Args:
        cuts: at least one.
    """

    cuts: Sequence[ThresholdCut]
    name: ClassVar[str] = "scores"

    @classmethod
    def of(cls, cuts: Sequence[CutRecord]) -> Self | None:
        """The cuts that one threshold on all scores has decided."""
        told = [(cut.kept, cut.details.get(cls.name) or {}) for cut in cuts]
        known = [ThresholdCut(kept=kept, **each) for kept, each in told if each.get("threshold") is not None]
        return cls(known) if known else None

    def data(self) -> list[float]:
        """The thresholds."""
        return [cut.threshold for cut in self.cuts]

    def markdown(self, picture: str | None) -> str:
        """The thresholds, in the order of the cuts."""
        thresholds = ", then ".join(f"{cut.threshold:.4g}" for cut in self.cuts)
        text = f"One threshold on the scores of the whole network decided which channels went: {thresholds}."
        image = [f"![scores of all channels, and the threshold]({picture})"] * (picture is not None)
        return "\n\n".join(["## Scores and the threshold", text, *image])

    def figure(self) -> Figure:
        """The scores of the whole network, lowest first, and the threshold: one panel per cut.

        The axis is logarithmic where they differ by more than a factor of ten. Removed and kept channels have their
        colours each, and others where it was not the threshold that decided: by a floor, a multiple or a rate of its
        own a channel stays that is not above it, with its residual branch one goes that is.
        """
        panels = len(self.cuts)
        figure = Figure(figsize=(8, 0.4 + 3.6 * panels), dpi=100, layout="constrained")
        for number, (axes, cut) in enumerate(
            zip(figure.subplots(panels, squeeze=False)[:, 0], self.cuts, strict=True), 1
        ):
            _draw(axes, cut)
            if panels > 1:
                axes.set_title(f"cut {number} of {panels}")
        return figure


def _draw(axes: Axes, cut: ThresholdCut) -> None:
    values, stays = cut.sorted()
    lowest = SMALLEST * (float(values.max()) or 1.0)
    ranks, above = torch.arange(1, len(values) + 1), values > cut.threshold
    kinds = [
        ("removed", ~stays & ~above, REMOVED, 4),
        ("removed, though above the threshold", ~stays & above, REMOVED_ABOVE, 8),
        ("kept, though not above the threshold", stays & ~above, KEPT_BELOW, 8),
        ("kept", stays & above, KEPT, 4),
    ]
    for label, chosen, colour, size in kinds:
        if count := int(chosen.sum()):
            told = f"{label}: {count:,} of {len(values):,} ({100 * count / len(values):.1f} %)"
            heights = values[chosen].clamp(min=lowest)
            axes.plot(
                ranks[chosen].numpy(),
                heights.numpy(),
                ".",
                color=colour,
                markersize=size,
                zorder=2 + size / 10,
                label=told,
            )
    axes.axhline(max(cut.threshold, lowest), color="black", linestyle="--", linewidth=1)
    axes.text(0, max(cut.threshold, lowest), f" threshold {cut.threshold:.3g}", va="bottom", fontsize=8)
    if float(values.max()) > 10 * float(values.min()):
        axes.set_yscale("log")
    clipped = f"\n(smaller ones at {lowest:.1g})" if bool((values < lowest).any()) else ""
    axes.set(xlabel="channels, lowest score first", ylabel=f"score{clipped}", xlim=(0, len(values) + 1))
    without_frame(axes)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
