"""A loss, or gradients, that are no numbers any more."""

import logging
from typing import Any, Literal, cast, get_args

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

log = logging.getLogger(__name__)
OnNonFinite = Literal["stop", "skip"]
MOST_SKIPPED = 20  # in a row: then nothing is left to be trained


class NonFinite(Callback):
    """Looks at loss and gradients before every optimizer step.

    With a loss scaler (16-mixed) gradients overflow now and then, and the scaler leaves these steps out; then only the
    loss is looked at.

    Args:
        policy: ``stop`` the training; or ``skip`` the step, with a warning, up to ``MOST_SKIPPED`` in a row. Statistics
            of batch norms are then as they were before it, too.
        phase: its name, for the error.

    Raises:
        ValueError: the policy does not exist.
    """

    def __init__(self, policy: OnNonFinite, phase: str) -> None:
        if policy not in get_args(OnNonFinite):
            raise ValueError(f"on_nonfinite must be one of {list(get_args(OnNonFinite))}, got {policy!r}")
        self.policy, self.phase = policy, phase
        self.loss: Tensor | None = None
        self.skipped = 0  # in a row
        self.buffers: dict[str, Tensor] = {}  # before the step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the statistics, before the first of the batches that make a step."""
        if self.policy == "skip" and self.loss is None:
            self.buffers = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Remember the loss; of accumulated batches one that is no number is enough."""
        loss = loss.detach()
        self.loss = loss if self.loss is None else self.loss + loss

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """All processes decide alike."""
        told, self.loss = self._told(trainer, pl_module), None
        left_out = trainer.strategy.reduce_boolean_decision(told is not None, all=False)
        cast(Any, pl_module).step_left_out = left_out
        if not left_out:
            self.skipped = 0
            return
        self.skipped += 1
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        where = f"phase {self.phase}, {epoch}, after {trainer.global_step} optimizer steps"
        told = told or "the loss of another process is no number"
        if self.policy == "stop" or self.skipped > MOST_SKIPPED:
            often = f" ({self.skipped} steps in a row)" if self.skipped > 1 else ""
            skip = "; or leave such steps out: resume=<folder> on_nonfinite=skip goes on from the last checkpoint"
            raise ValueError(
                f"{where}: {told}{often}; begin again with a lower learning rate ({self.phase}.optimizer.lr)"
                f"{skip if self.policy == 'stop' else ''}"
            )
        for name, buffer in pl_module.named_buffers():
            if name in self.buffers and buffer.shape == self.buffers[name].shape:
                buffer.copy_(self.buffers[name])
        log.warning("%s: %s; the step is left out", where, told)

    def _told(self, trainer: Trainer, pl_module: LightningModule) -> str | None:
        """Sentence on a loss or gradients that are not finite; None where all is well."""
        if self.loss is not None and not bool(self.loss.isfinite()):
            return "the loss is no number"
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return None
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if gradients and not bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            return "the gradients are no numbers"
        return None

    def state_dict(self) -> dict[str, Any]:
        """Number of steps in a row that were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue."""
        self.skipped = state_dict["skipped"]
