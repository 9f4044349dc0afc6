"""Training that adds something to the gradients, once per optimizer step, behind everything else."""

import logging
from abc import abstractmethod

from lightning_fabric.plugins.precision.amp import _optimizer_handles_unscaling
from pytorch_lightning.plugins.precision import HalfPrecision, MixedPrecision
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch.optim import Optimizer

from pruning_lit.phases.training import Training

log = logging.getLogger(__name__)
SHARDED = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)


class GradientEditing(Training):
    """Training with an edit of the gradients that the loss knows nothing of.

    It is made once per optimizer step: after the exchange between processes, unscaling, accumulation and clipping; so
    what it adds is never clipped, nor multiplied by their number. It goes through the optimizer like any gradient.
    """

    @abstractmethod
    def edit_gradients(self, loss_scale: float) -> None:
        """Change the gradients, in place; they are ``loss_scale`` times as large as those of the loss."""

    def find_edited(self) -> None:
        """Look for what is to be edited: when training starts, and behind the cut of an epoch."""

    def on_train_epoch_start(self) -> None:
        """Look again, as a cut at this epoch has been made by now."""
        super().on_train_epoch_start()
        self.find_edited()

    def on_fit_start(self) -> None:
        """Look for it, as an epoch that is resumed is not started again; refuse what would split parameters."""
        super().on_fit_start()
        self.find_edited()
        if isinstance(self.trainer.strategy, SHARDED):
            name = type(self.trainer.strategy).__name__
            raise ValueError(
                f"{type(self).__name__} needs whole parameters on every process, but {name} splits them; use ddp"
            )
        if isinstance(self.trainer.precision_plugin, HalfPrecision):
            log.warning(
                "%s changes parameters in small steps, which %s rounds; 16-mixed and bf16-mixed keep them in float32",
                type(self).__name__,
                self.trainer.precision_plugin.precision,
            )

    def after_clipping(self, optimizer: Optimizer) -> None:
        """Edit the gradients, which are exchanged, unscaled and clipped by then."""
        self.edit_gradients(self._loss_scale(optimizer))

    def _loss_scale(self, optimizer: Optimizer) -> float:
        """By what the gradients are too large here: fused optimizers take the loss scale off within their step."""
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler and _optimizer_handles_unscaling(optimizer):
            return float(plugin.scaler.get_scale())
        return 1.0
