"""Group sparsity training: a decay of all weights that leave with a channel, strongest where they are smallest."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, trace
from pruning_lit.criteria import Criterion
from pruning_lit.criteria.group_norm import squared_norms, weight_slices, weights_of
from pruning_lit.phases.gradient_editing import GradientEditing
from pruning_lit.sparsity import Sparsity
from pruning_lit.tasks.base import like

SMALL = 0.01  # of the largest norm of a group: a channel that has as good as left


class GroupSparsityTraining(GradientEditing):
    """Training with a decay of the filters, readers' columns and norms' scales of every channel that can be pruned.

    Once per optimizer step ``strength * ratio^((max - norm) / (max - min)) * weight`` is added to their gradients, with
    the norm of the channel and the largest and smallest one of its group, as they are at that step: the weakest channel
    decays ``ratio`` times as fast as the strongest. ``norms/small`` is the share of channels with less than a hundredth
    of the largest norm of their group, at the end of an epoch.

    Args:
        strength: of the decay of the strongest channels.
        ratio: how much stronger that of the weakest ones is, at least 1; at 1 all decay alike.
        criterion, sparsity: say what can be pruned.
        training: see ``Training``.

    Source: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", section 3.3, equation 4; that the ratio is 16
    and norms are means of squares over tensors, with the root taken, are those of its release.
    """

    def __init__(
        self, *, strength: float, criterion: Criterion, sparsity: Sparsity, ratio: float = 16.0, **training: Any
    ) -> None:
        super().__init__(**training)
        if not isinstance(strength, int | float) or not 0 <= strength < float("inf"):
            raise ValueError(f"strength is that of a decay, a number of at least 0, got {strength!r}")
        if not isinstance(ratio, int | float) or not 1 <= ratio < float("inf"):
            raise ValueError(f"ratio is how much stronger weak channels decay, a number of at least 1, got {ratio!r}")
        self.strength, self.ratio = strength, ratio
        self.criterion, self.sparsity = criterion, sparsity.bind(criterion)
        self.groups: list[ChannelGroup] = []
        self.decaying: dict[str, nn.Parameter] = {}

    def find_edited(self) -> None:
        """Look for the groups that can be pruned in the network as it is."""
        example = self.trainer.datamodule.example  # type: ignore[attr-defined]
        graph = self.criterion.protect(self.view, trace(self.view, like(example, next(self.net.parameters()))))
        self.groups = self.sparsity.prunable_groups(graph)
        self.decaying = weights_of(self.view)

    def edit_gradients(self, loss_scale: float) -> None:
        """Add the decay."""
        add_group_decay(self.groups, self.decaying, self.strength * loss_scale, self.ratio)

    def on_train_epoch_end(self) -> None:
        """Log the share of small channels."""
        super().on_train_epoch_end()
        norms = [channel_norms(group, self.decaying) for group in self.groups]
        if norms:
            small = torch.cat([each < SMALL * each.max() for each in norms])
            self.log("norms/small", small.float().mean(), rank_zero_only=True)


@torch.no_grad()
def channel_norms(group: ChannelGroup, weights: Mapping[str, Tensor]) -> Tensor:
    """Norms of the weights that leave with each channel, shape ``(group.size,)``: roots of means over tensors."""
    return squared_norms(group, weights, "mean").sqrt()


@torch.no_grad()
def add_group_decay(
    groups: Iterable[ChannelGroup], weights: Mapping[str, nn.Parameter], strength: float, ratio: float
) -> None:
    """Add a decay to the gradients, in place; see :class:`GroupSparsityTraining`.

    Args:
        groups: of the traced network. A weight that belongs to two of them, as a filter's column does, decays by both.
        weights: parameters by name, without biases and shifts. One without a gradient is left alone.
        strength: in the unit of the gradients.
        ratio: of the decay of the weakest channel to that of the strongest, within a group.
    """
    factors: dict[tuple[str, int], Tensor] = {}
    for group in groups:
        norms = channel_norms(group, weights)
        spread = (norms.max() - norms.min()).clamp(min=torch.finfo(norms.dtype).tiny)
        pull = ratio ** ((norms.max() - norms) / spread)
        for piece in weight_slices(group, weights):
            weight, positions = weights[piece.tensor], piece.positions.to(norms.device)
            factor = factors.setdefault((piece.tensor, piece.dim), weight.new_zeros(weight.shape[piece.dim]))
            factor.index_add_(0, positions.flatten(), pull.to(factor).repeat_interleave(positions.shape[1]))
    for (name, dim), factor in factors.items():
        weight = weights[name]
        if weight.grad is not None:
            weight.grad.addcmul_(
                weight, factor.view([-1 if place == dim else 1 for place in range(weight.ndim)]), value=strength
            )
