"""Plan of a cut, known before it is made: the channels that stay, the cost, and the reasons."""

from dataclasses import dataclass
from typing import Any

from pruning_lit.channels import Cost


@dataclass(frozen=True)
class Plan:
    """The channels that stay, and the network that they make.

    Attributes:
        kept: for every prunable group the positions that stay, ascending.
        target: widths that budget and floors ask for, before they are rounded, counted as positions.
        cost: of the network after the cut, counted in the graph before it.
        dense: cost of the network before the first cut.
        round_to: what widths are multiples of.
        unrounded: groups whose width is no multiple, each with the reason in words; they keep all their channels.
        floors: groups that a floor keeps wider than the budget asks, each with the floor (``min_share=0.1``).
        threshold: the largest score that goes, where one holds for all groups; else None.
        branches: paths of the residual branches that are taken out.
        remarks: further sentences for the report.
        evidence: what shows why channels go, by group; see ``Ranking``.
        sizes: positions before the cut, for every prunable group.
        multiplicities: output channels of the layer behind each position, see ``ChannelGroup.multiplicity``.
    """

    kept: dict[str, list[int]]
    target: dict[str, int]
    cost: Cost
    dense: Cost
    round_to: int
    unrounded: dict[str, str]
    floors: dict[str, str]
    threshold: float | None
    branches: list[str]
    remarks: list[str]
    evidence: dict[str, dict[str, Any]]
    sizes: dict[str, int]
    multiplicities: dict[str, int]

    @property
    def widths(self) -> dict[str, int]:
        """Number of positions that stay in every prunable group."""
        return {name: len(positions) for name, positions in self.kept.items()}

    @property
    def reduction(self) -> dict[str, float]:
        """The shares of the dense network's ``macs`` and ``params`` that are gone after the cut."""
        return {"macs": 1 - self.cost.macs / self.dense.macs, "params": 1 - self.cost.params / self.dense.params}

    @property
    def notes(self) -> list[str]:
        """Why more stays than was asked for, in sentences."""
        notes = [*self.remarks]
        if self.branches:
            names = ", ".join(f"`{path}`" for path in self.branches)
            notes.append(f"Nothing is left that these residual branches would add, so they are taken out: {names}.")
        if self.floors:
            kept_by = {
                floor: [name for name in self.floors if self.floors[name] == floor] for floor in self.floors.values()
            }
            parts = [f"{floor} in {', '.join(f'`{name}`' for name in names)}" for floor, names in kept_by.items()]
            notes.append(f"Floors keep channels that the budget would remove: {'; '.join(parts)}.")
        if self.unrounded:
            parts = [f"`{name}` ({reason})" for name, reason in self.unrounded.items()]
            notes.append(
                f"Whole, because it cannot be rounded up to a multiple of {self.round_to}: {', '.join(parts)}."
            )
        widths = self.widths
        if spared := sum(each * (widths[name] - self.target[name]) for name, each in self.multiplicities.items()):
            notes.append(f"Rounding up to multiples of {self.round_to} keeps {spared} channel(s) more.")
        return notes

    def __str__(self) -> str:
        """The cost after the cut, and what is gone by then."""
        return ", ".join(
            f"{getattr(self.cost, key):,} of {getattr(self.dense, key):,} {name} stay ({100 * gone:.1f} % gone)"
            for (key, gone), name in zip(self.reduction.items(), ("MACs", "parameters"), strict=True)
        )
