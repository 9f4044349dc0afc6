"""Norm recalibration: running statistics of batch norms, estimated anew for a network that was cut."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Alone(_BatchNorm):
    """A batch norm that asks no other process, for batches that all of them have."""

    def _check_input_dim(self, input: Any) -> None:
        """Any shape."""


def recalibrate(model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], object] | None = None) -> int:
    """Estimate the running statistics of all batch norms anew, in place; parameters and modes stay as they are.

    After a cut the inputs of later norms have other means and variances than before it. The statistics are means over
    the batches of those of each (cumulative averages), with all other modules, dropout among them, in eval mode. Norms
    without running statistics are left alone; those whose parameters do not learn see other inputs as well.

    Args:
        model: the network, on the device of the batches.
        batches: inputs, a few hundred images in all; labels are not needed.
        forward: a pass of the network on one of the batches; None: ``model(batch)``.

    Returns:
        Number of norms that have new statistics.

    Raises:
        ValueError: there are norms, but no batches.

    Source: Li et al. 2020, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning" (arXiv 2007.02491),
    section 3.3, with statistics that begin anew.
    """
    norms = [each for each in model.modules() if isinstance(each, _BatchNorm) and each.running_mean is not None]
    if not norms:
        return 0
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("norm statistics cannot be estimated without images: there are no batches")
    modes = {module: module.training for module in model.modules()}
    kinds, momenta = [type(norm) for norm in norms], [norm.momentum for norm in norms]
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
            if isinstance(norm, nn.SyncBatchNorm) or getattr(norm, "over_ranks", False):
                norm.__class__ = _Alone  # it would count every batch once for each process
        with torch.no_grad():
            for batch in chain([first], batches):
                model(batch) if forward is None else forward(batch)
    finally:
        for norm, kind, momentum in zip(norms, kinds, momenta, strict=True):
            norm.__class__, norm.momentum = kind, momentum
        for module, mode in modes.items():
            module.training = mode
    return len(norms)
