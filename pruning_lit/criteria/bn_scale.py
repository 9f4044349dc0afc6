"""The scales of batch norms: Network Slimming's measure of a channel, and its rule for choosing among all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels import ChannelGraph, ChannelGroup
from pruning_lit.criteria.base import Criterion, Scoring
from pruning_lit.criteria.producers import is_padded


def global_threshold(scales: Sequence[Tensor], percent: float) -> tuple[Tensor, list[Tensor]]:
    """One threshold for all scales of a network, and which of them are above it.

    All absolute values are sorted in float32. The threshold is the one at position ``trunc(count * percent)``, counted
    from 0, with the product in double precision. Only what is strictly larger stays, so that one channel more than
    that goes, and with equal values possibly many more.

    Args:
        scales: of every batch norm, each of shape ``(channels,)``, of both signs.
        percent: position of the threshold, as a share of all channels, in [0, 1).

    Returns:
        The threshold, a float32 scalar, and for every batch norm one boolean per channel, True where it stays.

    Raises:
        ValueError: there are no scales, some are not finite, or ``percent`` is outside [0, 1).

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 3; the rule
    for equal values and the rounding are those of its release for PyTorch.
    """
    if not 0 <= percent < 1:
        raise ValueError(f"percent is the share of channels below the threshold, in [0, 1), got {percent}")
    magnitudes = [scale.detach().abs().float() for scale in scales]
    count = sum(map(len, magnitudes))
    if not count:
        raise ValueError("there are no scales to choose from")
    together = torch.cat(magnitudes)
    if not bool(together.isfinite().all()):
        raise ValueError(f"{int((~together.isfinite()).sum())} of {count} scales are not finite; the training diverged")
    threshold = together.sort().values[int(count * percent)]
    return threshold, [magnitude > threshold for magnitude in magnitudes]


@dataclass(frozen=True)
class ScaleSlice:
    """The scales in one batch norm that belong to the channels of a group.

    Attributes:
        parameter: name of the batch norm's weight.
        positions: shape ``(group.size, n)``, the entries of each channel.
    """

    parameter: str
    positions: Tensor


def scale_names(net: nn.Module) -> set[str]:
    """Names of the weights of all batch norms, of any dimension, synchronised ones included; empty without any."""
    return {
        f"{name}.weight" if name else "weight"
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm) and module.affine
    }


def scales_of(group: ChannelGroup, names: Iterable[str]) -> list[ScaleSlice]:
    """The scales of a group's channels.

    Args:
        group: of a traced network.
        names: ``scale_names`` of that network.
    """
    return [ScaleSlice(piece.tensor, piece.positions) for piece in group.slices if piece.tensor in set(names)]


class BatchNormScale(Criterion):
    """The absolute scale by which a batch norm multiplies a channel.

    A channel that a chain of a convolution and depthwise ones makes has one scale for each of them, which are added.
    Channels of a residual stream have one for every layer that adds to it; by default such a stream is left whole.

    Args:
        tied: ``leave``: streams stay whole; ``group``: their channels are judged by the sum of all their scales, which
            for long streams is out of reach of a threshold that single scales decide; ``mean``: by the mean, for every
            group.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 3.
    """

    def __init__(self, tied: Literal["leave", "group", "mean"] = "leave") -> None:
        if tied not in ("leave", "group", "mean"):
            raise ValueError(f"criterion.tied must be 'leave', 'group' or 'mean', got {tied!r}")
        self.tied = tied

    def unsupported(self, net: nn.Module, graph: ChannelGraph) -> dict[str, str]:
        """Groups without a scale, and streams; ValueError where the network has no batch norm at all."""
        names = scale_names(net)
        if not names:
            raise ValueError(
                "the network has no batch norm with a scale to judge its channels by; choose another criterion, such "
                "as criterion=magnitude"
            )
        reasons = {}
        for group in graph.prunable:
            num_scales = len(scales_of(group, names))
            depthwise = set(group.writers) & set(group.readers)  # they hand each channel on
            if not num_scales:
                reasons[group.name] = "no batch norm scales its channels"
            elif self.tied == "leave" and (is_padded(graph, group) or num_scales - len(depthwise) > 1):
                reasons[group.name] = (
                    "several batch norms make its channels; criterion.tied=mean or =group judges by all"
                )
        return reasons

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Absolute batch-norm scales of each channel, added or averaged over its norms; the data are not looked at.

        Raises:
            ValueError: all scales are equal, as in a network that has not been trained.
        """
        names, parameters = scale_names(scoring.view), dict(scoring.view.named_parameters())
        scores = {}
        for group in scoring.groups:
            total = torch.zeros(group.size, dtype=torch.float64)
            pieces = scales_of(group, names)
            for piece in pieces:
                total += parameters[piece.parameter].detach().cpu().double().abs()[piece.positions].sum(1)
            scores[group.name] = total / len(pieces) if self.tied == "mean" else total
        values = [
            parameters[piece.parameter].detach().cpu()[piece.positions].flatten().float()
            for group in scoring.groups
            for piece in scales_of(group, names)
        ]
        together = torch.cat([torch.empty(0), *values])
        if len(together) > 1 and bool((together == together[0]).all()):
            raise ValueError(
                f"all {len(together)} batch-norm scales are {float(together[0]):g}, as in a network that was never "
                "trained; train it with the penalty first (phases=[sparsify,finetune]) or name its weights (weights=…)"
            )
        return scores
