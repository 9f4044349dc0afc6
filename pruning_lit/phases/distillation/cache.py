"""Outputs of a teacher, kept for every training example, so that it need not be asked again in every epoch."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.criteria.ranks import add_over_ranks
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import Batch

log = logging.getLogger(__name__)


class Remembered(nn.Module):
    """In place of a teacher: a network whose outputs are known already, whatever its inputs.

    Args:
        outputs: for the examples of the batch, ``(B, …)``.
    """

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, *inputs: Any) -> Tensor:
        """The outputs."""
        return self.outputs


class OutputCache:
    """Outputs of a teacher for all training examples, in float16 on the CPU; each process has them all.

    Args:
        teacher: in eval mode.
        examples: of this process, ready for the network: of each batch the positions ``(B,)`` and the batch.
        num_examples: of all processes.
        task: knows what outputs are.

    Raises:
        ValueError: outputs are not one tensor with a row for each example.
    """

    def __init__(
        self, teacher: nn.Module, examples: Iterable[tuple[Tensor, Batch]], num_examples: int, task: Task
    ) -> None:
        self.rows = torch.empty(0)
        for positions, batch in examples:
            with torch.no_grad():
                outputs = task.outputs(teacher, batch)
            require_rows(outputs, len(positions))
            if len(self.rows) == 0:
                self.device, self.dtype = outputs.device, torch.promote_types(outputs.dtype, torch.float32)
                self.rows = torch.zeros(num_examples, *outputs.shape[1:], dtype=torch.float16, device=self.device)
            self.rows[positions] = outputs.to(self.rows)
        add_over_ranks([self.rows])  # each has rows of its own, and zeros elsewhere
        self.rows = self.rows.cpu()
        size = self.rows.numel() * self.rows.element_size() / 2**20
        log.info("the teacher's outputs for all %s training examples are kept: %.1f MB", f"{num_examples:,}", size)

    def teacher(self, positions: Tensor) -> nn.Module:
        """A stand-in for the teacher, in the step on the examples at these positions."""
        return Remembered(self.rows[positions].to(self.device, self.dtype))


def require_rows(outputs: Any, num_examples: int) -> None:
    """ValueError where outputs are not one tensor with a row for each example."""
    if not isinstance(outputs, Tensor) or len(outputs) != num_examples:
        raise ValueError(
            "distillation.cache=true keeps a row of outputs for every training example, and this network gives other "
            f"outputs, of type {type(outputs).__name__}: leave the cache out"
        )
