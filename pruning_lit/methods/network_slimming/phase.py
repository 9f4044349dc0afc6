"""Sparsity training: an L1 penalty on the scales of batch norms, so that they tell which channels matter."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from pruning_lit.channels import trace
from pruning_lit.criteria import Criterion
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.phases.gradient_editing import GradientEditing
from pruning_lit.sparsity import Sparsity
from pruning_lit.tasks.base import like


class SparsityTraining(GradientEditing):
    """Cross-entropy plus an L1 penalty on batch-norm scales: ``loss + l1_strength * sum of |scale|``.

    The sub-gradient ``l1_strength * sign(scale)`` is added to the gradient of the scales once per optimizer step, see
    ``GradientEditing``; learning rate and momentum act on it, too. ``train/loss`` is without the penalty.

    Args:
        l1_strength: of the penalty, the paper's lambda; of the sum over all channels, while the loss is a mean.
        criterion, sparsity: say what can be pruned.
        penalised: ``population``: the scales of the channels that can be pruned; ``all``: those of every batch norm.
        training: see ``Training``.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", equation 1.
    """

    def __init__(
        self,
        *,
        l1_strength: float,
        criterion: Criterion,
        sparsity: Sparsity,
        penalised: Literal["population", "all"] = "population",
        **training: Any,
    ) -> None:
        super().__init__(**training)
        if not isinstance(l1_strength, int | float) or not 0 <= l1_strength < float("inf"):
            raise ValueError(f"l1_strength is that of a penalty, a number of at least 0, got {l1_strength!r}")
        if penalised not in ("population", "all"):
            raise ValueError(f"penalised must be 'population' or 'all', got {penalised!r}")
        if not scale_names(self.net):
            if any(type(module).__name__ == "FrozenBatchNorm2d" for module in self.net.modules()):  # torchvision's
                raise ValueError(
                    "Network Slimming needs trainable scales, and the batch norms of this network are frozen: set "
                    "arch.norm=batch, or choose another method"
                )
            raise ValueError("the network has no batch norm with a scale, so there is nothing to penalise")
        self.l1_strength, self.penalised = l1_strength, penalised
        self.criterion, self.sparsity = criterion, sparsity.bind(criterion)
        self.scales: list[tuple[nn.Parameter, Tensor | None]] = []

    def find_edited(self) -> None:
        """Look for the penalised scales in the network as it is."""
        parameters, example = dict(self.view.named_parameters()), self.trainer.datamodule.example  # type: ignore[attr-defined]
        self.scales = [
            (parameters[name], None if bool(flags.all()) else flags.to(parameters[name]))
            for name, flags in self.penalised_entries(example).items()
        ]

    def penalised_entries(self, example: Tensor) -> dict[str, Tensor]:
        """The penalised scales: by the name of a batch norm's weight, one boolean per channel.

        Args:
            example: an image, ``(1, C, H, W)``.
        """
        names, parameters = scale_names(self.view), dict(self.view.named_parameters())
        if self.penalised == "all":
            return {name: torch.ones(len(parameters[name]), dtype=torch.bool) for name in sorted(names)}
        entries: dict[str, Tensor] = {}
        graph = self.criterion.protect(self.view, trace(self.view, like(example, next(self.net.parameters()))))
        for group in self.sparsity.prunable_groups(graph):
            for piece in scales_of(group, names):
                flags = entries.setdefault(piece.parameter, torch.zeros(len(parameters[piece.parameter])).bool())
                flags[piece.positions.flatten()] = True
        return entries

    def edit_gradients(self, loss_scale: float) -> None:
        """Add the sub-gradient of the penalty."""
        add_l1_subgradient(self.scales, self.l1_strength * loss_scale)


@torch.no_grad()
def add_l1_subgradient(scales: Sequence[tuple[nn.Parameter, Tensor | None]], strength: float) -> None:
    """Add ``strength * sign(scale)`` to the gradients, in place; the sign of 0 is 0.

    Args:
        scales: the weights of batch norms, each of shape ``(channels,)``, with 1 for every penalised channel and 0
            for the others, or None where all are. One without a gradient is left alone.
        strength: in the unit of the gradients.

    Source: Liu et al. 2017, section 3; Network Slimming's release for the place in the step.
    """
    learning = [(scale, flags) for scale, flags in scales if scale.grad is not None]
    signs = [scale.sign() if flags is None else scale.sign() * flags for scale, flags in learning]
    if learning:
        gradients = [cast(Tensor, scale.grad) for scale, _ in learning]
        torch._foreach_add_(gradients, signs, alpha=strength)  # one launch on a GPU
