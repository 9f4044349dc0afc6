"""One pass over some batches, in which gradients of the loss are scored; none is left in the network."""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from pruning_lit.channels import ChannelGroup, ChannelSlice
from pruning_lit.criteria.base import NeedsData, Scoring
from pruning_lit.criteria.producers import channel_weights
from pruning_lit.criteria.ranks import add_over_ranks, rank_and_world_size
from pruning_lit.tasks.base import like, total

Layers = list[list[ChannelSlice]]  # parameters of a group's channels, layer by layer
Measure = Callable[[list[Tensor]], Tensor]  # products of every layer (channels, parameters) to scores (channels,)


class Drawn(NamedTuple):
    """Calibration batches that are drawn for gradients; see ``Scoring.batches``."""

    num_images: int
    batch_size: int
    augment: bool
    seed: int


def mean_over_batches(
    scoring: Scoring, layers: Mapping[str, Layers], drawn: Drawn, measure: Measure
) -> dict[str, Tensor]:
    """Mean over batches of what is measured on gradient times value of the parameters of every channel.

    Gradients are those of the loss of a batch in eval mode: batch norms go by their averages, and nothing is dropped.

    Args:
        scoring: network, groups, data, and the task that has the loss.
        layers: by group, the slices of the parameters that count.
        drawn: the batches.
        measure: products of a group to its scores for one batch.

    Returns:
        Scores by group, float64, on the CPU, equal on all ranks.

    Raises:
        NeedsData: there is no task, or there are no data.
        ValueError: there are no batches.
    """
    from lightning_fabric.utilities import move_data_to_device  # late: loads most of Lightning

    if scoring.task is None:
        raise NeedsData("these scores depend on the loss, and there is no task that has one")
    batches = scoring.batches(drawn.num_images, drawn.seed, drawn.augment, drawn.batch_size, shared=False)
    net = copy.deepcopy(scoring.net).eval().requires_grad_(False)  # no gradient or average of the original changes
    net.to(torch.promote_types(next(net.parameters()).dtype, torch.float32))
    weights, view = next(net.parameters()), scoring.task.view(net)
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
                products = first_order(learning, total(scoring.task.loss(net, batch, training=False)))
            for name, of_group in layers.items():
                totals[name] += measure([channel_weights(pieces, products) for pieces in of_group])
            num_batches += 1
    add_over_ranks([num_batches, *totals.values()])
    if not num_batches:
        raise ValueError("the criterion saw no image: the calibration set is empty")
    return {name: (each / num_batches).cpu() for name, each in totals.items()}


def first_order(parameters: Mapping[str, Tensor], loss: Tensor) -> dict[str, Tensor]:
    """Gradient times value of every parameter, float64: minus what the loss loses, to first order, without it."""
    gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True, materialize_grads=True)
    return {
        name: parameter.detach().double() * gradient.double()
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
    }


def with_biases(group: ChannelGroup, layers: Mapping[str, Sequence[ChannelSlice]]) -> Layers:
    """Slices of weights, by layer, each with the bias of its layer."""
    return [
        [*pieces, *(piece for piece in group.slices if piece.tensor == f"{layer}.bias")]
        for layer, pieces in layers.items()
    ]
