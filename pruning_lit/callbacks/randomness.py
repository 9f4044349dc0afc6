"""Random numbers that depend on nothing but seed and step, so that a resumed run draws what it would have drawn."""

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class StatelessRandomness(Callback):
    """Seed torch's generators anew before every training step (dropout and the like; images have their own seeds).

    Args:
        seed: of the run.
        stream: number of the phase.
    """

    def __init__(self, seed: int, stream: int) -> None:
        self.seed, self.stream = seed, stream

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ranks draw different numbers."""
        entropy = (self.seed, self.stream, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1)))
