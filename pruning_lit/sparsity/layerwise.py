"""A rate per layer."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from pruning_lit.channels import ChannelGraph, ChannelGroup
from pruning_lit.sparsity.base import Scores, Sparsity
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.layout import layout
from pruning_lit.sparsity.rates import parse_rate, parse_rates, width_after


class Layerwise(Sparsity):
    """Remove from each layer the share that the papers' tables name.

    Args:
        rates: ``"[0.]+[0.15]*2+[0.4]*27"`` (see ``parse_rates``; ``layout`` says which entry is whose), a list of
            numbers, or a mapping from group names to rates, where groups that are not named stay whole.
        limits: see ``Limits``; an override is another rate for the groups it names, also for those without one.
    """

    def __init__(self, rates: str | Sequence[float] | Mapping[str, float], **limits: Any) -> None:
        super().__init__(**limits)
        self.by_name = (
            {n: parse_rate(r, f"rate of {n!r}") for n, r in rates.items()} if isinstance(rates, Mapping) else None
        )
        self.in_order = [] if isinstance(rates, Mapping) else parse_rates(rates)

    def prunable_groups(self, graph: ChannelGraph) -> list[ChannelGroup]:
        """The groups whose rate is above 0."""
        rates = self.rates(graph) | self.limits.rates(graph)
        return [group for group in super().prunable_groups(graph) if rates.get(group.name)]

    def check(self, graph: ChannelGraph) -> None:
        """ValueError, with the expected layout spelled out, where the list does not fit the network."""
        self.prunable_groups(graph)

    def rates(self, graph: ChannelGraph) -> dict[str, Fraction]:
        """The share that the list or the mapping removes from each group it has one for."""
        if self.by_name is not None:
            for name, rate in self.by_name.items():
                group = graph[name]
                if rate and group.protected:
                    raise ValueError(f"sparsity.rates: group {name!r} is protected: {group.protected}")
            return self.by_name
        expected = layout(graph)
        if len(expected.entries) != len(self.in_order):
            raise ValueError(
                f"sparsity.rates has {len(self.in_order)} entries, but this network takes {expected.describe()}"
            )
        if expected.has_stem and not expected.stem:
            allowed = {Fraction(0), *(self.in_order[1:2] if expected.streams else [])}
            if self.in_order[0] not in allowed:
                raise ValueError(
                    "sparsity.rates: the stem is narrowed with the residual stream it feeds, so the first rate must be "
                    f"{' or '.join(f'{float(rate):g}' for rate in sorted(allowed))}, not {float(self.in_order[0]):g}"
                )
        return {
            group.name: rate for groups, rate in zip(expected.entries, self.in_order, strict=True) for group in groups
        }

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths that the rate of each group leaves of its dense width."""
        return {
            name: min(graph[name].size, width_after(dense.sizes[name], rate * progress))
            for name, rate in self.rates(graph).items()
        }
