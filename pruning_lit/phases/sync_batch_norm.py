"""Batch statistics over all processes: torch's own way on GPUs, and one for CPUs, where that does not run."""

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels import attach
from pruning_lit.channels.tracing.modes import differs_in_statistics


def require_synchronisable(model: nn.Module) -> None:
    """Require batch norms that do nothing but normalise: ValueError for one with a ``forward`` of its own.

    What switches norms over to statistics of all processes would leave the rest out, an activation say.
    """
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm) and not differs_in_statistics(type(module)):
            raise ValueError(
                f"trainer.sync_batchnorm=true: {path!r}, of type {type(module).__name__}, does more than normalise, "
                "which would be lost; leave it out, or build the network with torch's own batch norms"
            )


class SyncBatchNorm(LayerSync):
    """Lets every batch norm see the images of all ranks, so that n processes train like one on the global batch.

    Layers keep their objects, parameters and names; only their class changes, and is changed back afterwards.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Switch the layers over."""
        for module in model.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, _OverRanks):
                module.__class__ = type(f"Sync{type(module).__name__}", (_OverRanks, type(module)), {})
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Switch them back."""
        for module in model.modules():
            if isinstance(module, _OverRanks):
                module.__class__ = type(module).__mro__[2]
        return model


class GpuSyncBatchNorm(TorchSyncBatchNorm):
    """Torch's own, by Lightning's plugin: the layers are made anew, and their attached children act on them again."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Switch the layers over."""
        model = super().apply(model)
        attach(model)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Switch them back; called for every child in turn."""
        model = super().revert(model)
        attach(model)
        return model


class _OverRanks(_BatchNorm):
    """A batch norm whose training-mode statistics are those of all ranks."""

    over_ranks = True  # to a trace it is a batch norm as any other

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, *)``."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        values = x if x.dtype == torch.float64 else x.float()  # statistics in bf16 would be coarse
        total = _AddUp.apply(torch.cat([values.sum(dims), values.new_tensor([x.numel() / x.shape[1]])]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centred = values - mean.view(shape)
        variance = _AddUp.apply(centred.square().sum(dims)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _AddUp(torch.autograd.Function):
    """Sum over all ranks; its gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient
