"""Taylor: what the loss changes, to first order, when a channel is taken away."""

import copy
from collections.abc import Mapping
from itertools import islice
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, ChannelSlice
from pruning_lit.channels.tracing.views import layer_of
from pruning_lit.criteria.base import Criterion, NeedsData, Scoring
from pruning_lit.criteria.bn_scale import scale_names
from pruning_lit.criteria.producers import channel_weights, filter_slices
from pruning_lit.criteria.ranks import add_over_ranks, rank_and_world_size
from pruning_lit.tasks.base import like, total

Form = Literal["gate", "filter", "elementwise"]
Reduction = Literal["sum", "mean", "max", "first"]


class Taylor(Criterion):
    """Squared first-order change of the loss when a channel's parameters become zero; mean over batches.

    The parameters are, with gradients g of the loss and weights w:

    * ``gate``: scale and shift of the batch norm behind the layer, ``(g_scale scale + g_shift shift)^2``; for a channel
      without batch norm the filter form;
    * ``filter``: the filter and its bias, ``(sum of g w)^2``;
    * ``elementwise``: the same, ``sum of (g w)^2``.

    Gradients are those of the loss of a batch in eval mode: batch norms go by their averages, and nothing is dropped.

    Args:
        form: see above.
        reduction: of the layers that make a channel, as those of a residual stream: ``sum``: their changes are added,
            then squared, as they leave together; ``mean``, ``max``, ``first``: of the squares of single layers.
        num_images: images looked at over all ranks; fewer where the data set has fewer.
        batch_size: images per batch, whatever the number of ranks; the squares of larger batches are smaller.
        augment: crop and mirror them as in training.
        seed: of their choice and augmentation.

    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8, and section 4.1 for
    gates behind batch norms.
    """

    comparable = True

    def __init__(
        self,
        form: Form = "gate",
        reduction: Reduction = "sum",
        num_images: int = 640,
        batch_size: int = 32,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value, choices in (("form", form, get_args(Form)), ("reduction", reduction, get_args(Reduction))):
            if value not in choices:
                raise ValueError(f"criterion.{name} must be one of {list(choices)}, got {value!r}")
        if num_images < 1 or batch_size < 1:
            raise ValueError(
                f"criterion.num_images and batch_size must be at least 1, got {num_images} and {batch_size}"
            )
        self.form, self.reduction = form, reduction
        self.num_images, self.batch_size, self.augment, self.seed = num_images, batch_size, augment, seed

    def notes(self, scoring: Scoring) -> list[str]:
        """The groups that are judged by filters for want of a batch norm."""
        norms = scale_names(scoring.view)
        bare = [group.name for group in scoring.groups if not any(piece.tensor in norms for piece in group.slices)]
        if self.form != "gate" or not bare:
            return []
        return [f"No batch norm scales the channels of {', '.join(bare)}: Taylor scores of the filters instead."]

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Squared Taylor terms of each channel, averaged over batches; the gradients are those of the task's loss."""
        from lightning_fabric.utilities import move_data_to_device  # late: loads most of Lightning

        if scoring.task is None:
            raise NeedsData("these scores depend on the loss, and there is no task that has one")
        batches = scoring.batches(self.num_images, self.seed, self.augment, self.batch_size, shared=False)
        net = copy.deepcopy(scoring.net).eval().requires_grad_(False)  # no gradient or average of the original changes
        net.to(torch.promote_types(next(net.parameters()).dtype, torch.float32))
        weights, view = next(net.parameters()), scoring.task.view(net)
        layers = {group.name: self._slices(group, view) for group in scoring.groups}
        names = {piece.tensor for of_group in layers.values() for pieces in of_group for piece in pieces}
        learning = {name: each.requires_grad_() for name, each in view.named_parameters() if name in names}
        totals = {
            group.name: torch.zeros(group.size, dtype=torch.float64, device=weights.device) for group in scoring.groups
        }
        num_batches = torch.zeros((), dtype=torch.int64, device=weights.device)
        rank, world_size = rank_and_world_size()
        devices = [weights.device] if weights.is_cuda else []
        with torch.random.fork_rng(devices):  # whatever a forward pass draws, training goes on with the numbers it had
            # ranks share whole batches, for the square of half a batch's gradient is another one
            for inputs, targets in islice(batches, rank, None, world_size):
                batch = like(inputs, weights), move_data_to_device(targets, weights.device)
                with torch.enable_grad(), torch.autocast(weights.device.type, enabled=False):
                    changes = first_order(learning, total(scoring.task.loss(net, batch, training=False)))
                for name, of_group in layers.items():
                    totals[name] += self._squares([channel_weights(pieces, changes) for pieces in of_group])
                num_batches += 1
        add_over_ranks([num_batches, *totals.values()])
        if not num_batches:
            raise ValueError("the criterion saw no image: the calibration set is empty")
        return {name: (each / num_batches).cpu() for name, each in totals.items()}

    def _slices(self, group: ChannelGroup, view: nn.Module) -> list[list[ChannelSlice]]:
        """The parameters whose change counts, layer by layer."""
        norms, parameters = scale_names(view), dict(view.named_parameters())
        scales = [piece for piece in group.slices if piece.tensor in norms] if self.form == "gate" else []
        layers: dict[str, list[ChannelSlice]] = {}
        for piece in scales or filter_slices(group, parameters):
            layers.setdefault(layer_of(piece.tensor), []).append(piece)
        for layer, pieces in layers.items():
            pieces += [piece for piece in group.slices if piece.tensor == f"{layer}.bias"]
        return list(layers.values())

    def _squares(self, products: list[Tensor]) -> Tensor:
        """Scores ``(size,)`` of one batch, from the products of every layer, each ``(size, number of parameters)``."""
        if self.form == "elementwise":
            changes = torch.stack([each.square().sum(1) for each in products])
            together = changes.sum(0)
        else:
            sums = torch.stack([each.sum(1) for each in products])
            changes, together = sums.square(), sums.sum(0).square()
        match self.reduction:
            case "sum":
                return together
            case "mean":
                return changes.mean(0)
            case "max":
                return changes.amax(0)
            case "first":
                return changes[0]


def first_order(parameters: Mapping[str, Tensor], loss: Tensor) -> dict[str, Tensor]:
    """Gradient times value of every parameter, float64: minus what the loss loses, to first order, without it."""
    gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True, materialize_grads=True)
    return {
        name: parameter.detach().double() * gradient.double()
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
    }
