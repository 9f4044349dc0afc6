"""Number of optimizer steps in an epoch, known before there is a trainer."""

import math
from fractions import Fraction
from typing import NamedTuple, Protocol


class TrainingImages(Protocol):
    """The part of a data module that counting needs."""

    batch_size: int
    drop_last: bool

    @property
    def num_training(self) -> int:
        """Images that are trained on."""
        ...


class EpochSteps(NamedTuple):
    """Length of an epoch in optimizer steps.

    Attributes:
        steps: that are made.
        exact: images over images per step, not whole where the last batch is smaller than the others.
    """

    steps: int
    exact: Fraction

    @classmethod
    def of(
        cls, data: TrainingImages, num_processes: int = 1, limit: int | float = 1.0, accumulate: int = 1
    ) -> "EpochSteps":
        """Count.

        Args:
            data: ``batch_size`` is per process.
            num_processes: that train.
            limit: Lightning's ``limit_train_batches``: a number of batches, or a share of them.
            accumulate: batches per optimizer step.
        """
        sharing = num_processes if getattr(data, "shares_epochs", True) else 1  # else each has as many to itself
        batch = data.batch_size * sharing
        rest = data.num_training % batch % sharing  # left out, see ``EpochBatches``
        num_images = data.num_training - rest
        batches = num_images // batch if data.drop_last else math.ceil(num_images / batch)
        limited = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps = max(1, math.ceil(limited / accumulate))
        if limited < batches:
            return cls(steps, Fraction(limited, accumulate))
        return cls(steps, Fraction(num_images, batch * accumulate))
