"""What all callbacks share that make a network smaller."""

from abc import abstractmethod
from typing import Any

from pytorch_lightning import Callback
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.limits import Limits

NUM_VERIFIED = 8  # pictures on which every cut is verified


class Pruning(Callback):
    """Makes the network smaller within, or at the end of, a phase, and records what it did.

    Attributes:
        cuts: for the report, one record per cut; a part of the callback's state.
    """

    cuts: list[dict[str, Any]]

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the network has its final width."""

    def check(self, net: nn.Module, graph: ChannelGraph, num_epochs: int) -> None:
        """ValueError, before any training, for what cannot work; some leave that to their phase."""


def group_states(graph: ChannelGraph, limits: Limits) -> list[dict[str, Any]]:
    """Every group with its output channels before the cut, and why it may not lose any."""
    return [
        {"name": group.name, "size": group.size * group.multiplicity, "protected": limits.why_whole(group)}
        for group in graph.groups
    ]


def pictures_to_verify(data: Any) -> Tensor:
    """A few training pictures of a data module, the same on all ranks."""
    ((pictures, _),) = data.calibration(min(NUM_VERIFIED, data.num_training), seed=0, batch_size=NUM_VERIFIED)
    return pictures
