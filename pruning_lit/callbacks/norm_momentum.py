"""Momentum of batch-norm statistics that falls during training, as networks for point clouds are trained."""

import math
from collections.abc import Sequence
from fractions import Fraction

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.modules.batchnorm import _BatchNorm


class NormMomentum(Callback):
    """Multiply the momentum of all batch norms at milestones; what it is in an epoch depends on the epoch alone.

    Args:
        milestones: shares of the phase's epochs, in (0, 1).
        gamma: the factor at each.
        lowest: the product of the factors does not fall below this.
        start: momentum of the first epochs.

    Raises:
        ValueError: a setting is out of its range.

    Source: the public PyTorch version of PointNet++, part segmentation.
    """

    def __init__(
        self, milestones: Sequence[float], gamma: float = 0.5, lowest: float = 0.1, start: float = 0.1
    ) -> None:
        if any(not 0 < milestone < 1 for milestone in milestones):
            raise ValueError(f"norm_momentum.milestones are shares of the epochs, in (0, 1), got {list(milestones)}")
        for name, value in (("gamma", gamma), ("lowest", lowest), ("start", start)):
            if not 0 < value <= 1:
                raise ValueError(f"norm_momentum.{name} must be above 0 and at most 1, got {value}")
        self.milestones = [Fraction(str(milestone)) for milestone in milestones]
        self.gamma, self.lowest, self.start = gamma, lowest, start

    def momentum(self, epoch: int, num_epochs: int) -> float:
        """The momentum in an epoch, counted from 0."""
        reached = sum(epoch >= math.floor(milestone * num_epochs) for milestone in self.milestones)
        return self.start * max(self.lowest, self.gamma**reached)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set it in an epoch that is resumed in its middle, which Lightning does not start again."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set it; norms may be new ones after a cut."""
        value = self.momentum(trainer.current_epoch, trainer.max_epochs or 1)
        for module in pl_module.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = value
