"""Importance of a channel in ResRep: the norm of its compactor's row."""

from typing import get_args

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup, Placement, compactors
from pruning_lit.channels.modules.compactor import compactor_of
from pruning_lit.criteria.base import Criterion, NeedsTraining, Scoring
from pruning_lit.methods.resrep.placement import PlacementPlan, Policy


class CompactorNorm(Criterion):
    """The Euclidean length of the compactor's row that makes a channel.

    Args:
        policy: ``internal_only``: only channels that one convolution makes are judged; ``coupled``: those of residual
            streams, too, by the compactor that all layers share that write into it.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", section 3.3.
    """

    comparable = True

    def __init__(self, policy: Policy = "internal_only") -> None:
        if policy not in get_args(Policy):
            raise ValueError(f"criterion.policy must be one of {list(get_args(Policy))}, got {policy!r}")
        self.policy: Policy = policy
        self._latest: tuple[ChannelGraph, PlacementPlan] | None = None

    def unsupported(self, net: nn.Module, graph: ChannelGraph) -> dict[str, str]:
        """The groups that get no compactor; ``net`` and ``graph`` are those of the network without any."""
        return self._plan(net, graph).reasons

    def check(self, groups: list[ChannelGroup]) -> None:
        """ValueError: only the phase that trains compactors knows their rows."""
        raise ValueError(
            "criterion=compactor_norm judges by compactors, which are there only while method=resrep trains them; "
            "choose that method, or another criterion"
        )

    def placements(self, net: nn.Module, graph: ChannelGraph, groups: list[ChannelGroup]) -> list[Placement]:
        """Placements of the compactors, and the rows of each that belong to these groups.

        Args:
            net: the network without compactors.
            graph: of it; other groups may be protected beside those that ``unsupported`` names.
            groups: those that may lose channels.
        """
        names = {group.name for group in groups}
        placements = []
        for placement in self._plan(net, graph).placements:
            rows = {name: each for name, each in placement.rows.items() if name in names}
            if rows:
                placements.append(Placement(placement.layers, placement.behind, placement.width, rows))
        return placements

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Norms of the rows; ``net`` has compactors, ``graph`` is from before they came."""
        if not compactors(scoring.view):
            raise NeedsTraining(
                "criterion=compactor_norm has no scores yet: the rows of compactors differ only once method=resrep has "
                "trained them"
            )
        lengths: dict[str, Tensor] = {}
        for placement in self.placements(scoring.view, scoring.graph, scoring.groups):
            norms = compactor_of(scoring.view, placement).norms()
            lengths |= {name: norms[rows] for name, rows in placement.rows.items()}
        return {group.name: lengths[group.name] for group in scoring.groups}

    def _plan(self, net: nn.Module, graph: ChannelGraph) -> PlacementPlan:
        if self._latest is None or self._latest[0].transcript is not graph.transcript:
            self._latest = graph, PlacementPlan(net, graph, self.policy)
        return self._latest[1]
