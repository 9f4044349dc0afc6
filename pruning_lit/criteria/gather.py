"""One pass over some pictures, in which every feature map is scored as it appears; no map is stored."""

from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, observe

Score = Callable[[Tensor], Tensor]  # maps (N, C, H, W) to scores (N, C)


def mean_scores(
    net: nn.Module, groups: list[ChannelGroup], batches: Iterable[Tensor], score: Score
) -> dict[int, Tensor]:
    """Mean over pictures of the scores of every map by which a group is judged.

    Args:
        net: the network that the groups were traced in; put in eval mode for the pass.
        groups: their taps say which maps; a map shared by several is scored once.
        batches: pictures ``(N, C, H, W)`` of this rank; under distributed training sums and counts are added over all
            ranks.
        score: maps to one score per picture and channel.

    Returns:
        Tap number to float64 means, shape ``(channels of the map,)``, on the CPU; equal however the pictures are split.
    """
    device = next(net.parameters()).device
    totals: dict[int, Tensor] = {}
    taps = {tap.operation: tap.channels for group in groups for tap in group.taps}
    for tap, channels in sorted(taps.items()):
        # the last entry counts the pictures
        totals[tap] = torch.zeros(channels + 1, dtype=torch.float64, device=device)

    def listener(tap: int) -> Callable[[Tensor], None]:
        def add(maps: Tensor) -> None:
            scores = score(maps if maps.ndim == 4 else maps[..., None, None])
            totals[tap][:-1] += scores.sum(0)
            totals[tap][-1] += len(scores)

        return add

    listeners = {tap: listener(tap) for tap in totals}
    for batch in batches:
        observe(net, (batch.to(device),), listeners)
    return {tap: (total[:-1] / total[-1]).cpu() for tap, total in _over_ranks(totals).items()}


def _over_ranks(totals: dict[int, Tensor]) -> dict[int, Tensor]:
    if dist.is_available() and dist.is_initialized():
        for total in totals.values():  # in the order of the taps, which is the same on all ranks
            dist.all_reduce(total)
    if any(total[-1] == 0 for total in totals.values()):
        raise ValueError("the criterion saw no picture: the calibration set is empty")
    return totals
