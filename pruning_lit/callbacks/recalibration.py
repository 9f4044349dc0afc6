"""Norm recalibration in a run: on which images, the same for all processes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from torch import nn

from pruning_lit.channels import recalibrate
from pruning_lit.criteria.ranks import rank_and_world_size
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import Batch, like


class Calibration(Protocol):
    """The part of a data module that recalibration needs."""

    batch_size: int

    @property
    def num_training(self) -> int:
        """Number of training images."""
        ...

    def calibration(self, num_images: int, seed: int, augment: bool, *, batch_size: int) -> Iterator[Batch]:
        """Seeded batches of training images, ready for the network."""
        ...


TRIAL_BATCHES = 2  # further ones hardly change which networks a search prefers


class Recalibration:
    """New running statistics of the batch norms after a cut, from a few training images as evaluation sees them.

    Every process looks at all of them, so all have the same statistics to the last bit, as a single process has them.

    Args:
        batches: how many, where they are as large as asked for; fewer where there are fewer images.
        batch_size: images in each; no more than in a training step, all processes together, for such a batch fits.
        seed: of their choice.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, batches: int = 5, batch_size: int = 128, seed: int = 0) -> None:
        for name, value in (("batches", batches), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"recalibrate.{name} must be a whole number of at least 1, got {value!r}")
        self.batches, self.batch_size, self.seed = batches, batch_size, seed

    def for_trials(self) -> "Recalibration":
        """The recalibration of many networks one after the other, by fewer images, which do as well."""
        return Recalibration(min(self.batches, TRIAL_BATCHES), self.batch_size, self.seed)

    def renew(self, net: nn.Module, data: Calibration, task: Task) -> bool:
        """Renew the statistics of ``net``, in place; False where it has none.

        Args:
            net: the network, cut.
            data: a data module.
            task: knows how its networks take a batch.
        """
        return self._renew(net, self.images(data), task)

    def renewer(self, data: Calibration, task: Task) -> Callable[[nn.Module], bool]:
        """``renew`` for many networks: the images are read once."""
        batches = [*self.images(data)]
        return lambda net: self._renew(net, batches, task)

    def images(self, data: Calibration) -> Iterator[Batch]:
        """The batches from which statistics are taken, on the CPU: the same on every process."""
        return data.calibration(self.num_images(data), self.seed, augment=False, batch_size=self._size(data))

    def num_images(self, data: Calibration) -> int:
        """Number of images in these batches."""
        available, size = min(self.batches * self.batch_size, data.num_training), self._size(data)
        alone = available > size and available % size == 1  # of a single image many maps have no variance
        return available - 1 if alone else available

    def _size(self, data: Calibration) -> int:
        return min(self.batch_size, max(2, data.batch_size * rank_and_world_size()[1]))

    def _renew(self, net: nn.Module, batches: Iterable[Batch], task: Task) -> bool:
        weights = next(net.parameters())
        moved = ((like(inputs, weights), targets) for inputs, targets in batches)
        return recalibrate(net, moved, lambda batch: task.outputs(net, batch)) > 0
