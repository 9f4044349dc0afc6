"""One threshold on the scores, by the rule of Network Slimming's release."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pruning_lit.criteria.bn_scale import global_threshold


def widths_above(scores: Mapping[str, Tensor], share: float, together: bool) -> dict[str, int]:
    """Number of channels of each group whose score is above the threshold; see ``global_threshold``.

    Args:
        scores: of every group, shape ``(size,)``.
        share: position of the threshold, in [0, 1); at 0 nothing goes.
        together: whether all groups have one threshold, or each its own.
    """
    if not share:
        return {name: len(each) for name, each in scores.items()}
    if together:
        _, masks = global_threshold(list(scores.values()), share)
    else:
        masks = [global_threshold([each], share)[1][0] for each in scores.values()]
    return {name: int(mask.sum()) for name, mask in zip(scores, masks, strict=True)}


def largest_share(scores: Mapping[str, Tensor]) -> float:
    """The largest share, in thousandths, with which one threshold leaves something of every group; 0 if none does."""
    weakest = min(float(each.float().max()) for each in scores.values())
    together = torch.cat([each.float() for each in scores.values()])
    below = int((together < weakest).sum())  # the threshold may be any of these
    exact = below / len(together)  # not reached, for int(count * share) is to stay below
    return max(0, int(1000 * exact - 1e-9)) / 1000
