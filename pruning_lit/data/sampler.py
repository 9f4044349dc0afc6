"""Batch samplers: the images of each batch and the share of each rank, by plain arithmetic, the same on all ranks.

Batches are cut globally, ``batch_size * world_size`` images each, and every rank takes its contiguous share of each.
So the k-th batches of all ranks together are the k-th batch of a single process with that global batch size.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from pruning_lit.data.seeding import generator

Draw = Callable[[int, Generator], Tensor]  # number of images to one row each: what happens to them in an epoch


def draw_nothing(num_images: int, random: Generator) -> Tensor:
    """No augmentation: shape ``(num_images, 0)``."""
    return torch.empty(num_images, 0, dtype=torch.int64)


class EpochBatches:
    """Shuffled batches for training; order and draws are a function of seed, stream and epoch.

    The last batch of an epoch is smaller where the images do not divide evenly. With several ranks it is trimmed to
    a multiple of their number (at most ``world_size - 1`` images of this epoch's order are left out), for the mean of
    the ranks' gradients is the gradient of the whole batch only when all ranks have equally many images. With
    ``drop_last`` it is left out: other images in every epoch, as each has an order of its own.

    Args:
        num_images: images in the training part.
        batch_size: images per step and process.
        draw: what is drawn for every image, once the order is.
        seed: of the run.
        stream: tells the phases of a run apart, which would otherwise see the same orders.
        rank: of this process.
        world_size: number of processes.
        repeat: every epoch is like epoch 0, draws included.
        drop_last: leave a last batch out that is smaller than the others.
        kinds: int64 ``(num_images,)``; the batches of all ranks together are of images of one kind, but for the last
            few.

    Raises:
        ValueError: there are fewer images than processes, or with ``drop_last`` than in a batch of all processes.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        draw: Draw = draw_nothing,
        seed: int = 0,
        stream: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeat: bool = False,
        drop_last: bool = False,
        kinds: Tensor | None = None,
    ) -> None:
        require_enough(num_images, world_size)
        self.num_images = num_images
        self.global_batch = batch_size * world_size
        self.drop_last = drop_last
        if drop_last and num_images < self.global_batch:
            raise ValueError(
                f"{num_images} training images do not fill one batch of {batch_size} x {world_size} process(es), "
                "and dataset.drop_last=true leaves it out: set it to false, or make dataset.batch_size smaller"
            )
        self.draw = draw
        self.seed = seed
        self.stream = stream
        self.rank = rank
        self.world_size = world_size
        self.repeat = repeat
        self.kinds = kinds
        self.epoch = 0
        self._ordered: tuple[int, Tensor] | None = None  # an epoch and its order, once one has been asked for

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self._num_used // self.global_batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches(first=0)

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Positions, shape ``(B,)``, and draws, shape ``(B, D)``, of this rank's batches from number ``first`` on."""
        random = self._random()
        order = self._order(random)
        draws = self.draw(self.num_images, random)
        for k in range(first, len(self)):
            part = self._share(k)
            yield order[part], draws[part]

    def positions(self, number: int) -> Tensor:
        """Positions, shape ``(B,)``, of this rank's batch of that number."""
        if self._ordered is None or self._ordered[0] != self.epoch:
            self._ordered = self.epoch, self._order(self._random())
        return self._ordered[1][self._share(number)]

    def _random(self) -> Generator:
        return generator("training", self.seed, self.stream, 0 if self.repeat else self.epoch)

    def _order(self, random: Generator) -> Tensor:
        order = torch.randperm(self.num_images, generator=random)
        return order if self.kinds is None else grouped(order, self.kinds, self.global_batch)

    def _share(self, number: int) -> slice:
        begin = number * self.global_batch
        return share(begin, min(begin + self.global_batch, self._num_used), self.rank, self.world_size)

    @property
    def _num_used(self) -> int:
        rest = self.num_images % self.global_batch
        return self.num_images - (rest if self.drop_last else rest % self.world_size)


def grouped(order: Tensor, kinds: Tensor, size: int) -> Tensor:
    """Change an order so that batches are of one kind each; what fills no batch of its kind comes last.

    Args:
        order: a permutation, int64 ``(N,)``.
        kinds: of the images, int64 ``(N,)``.
        size: images in a batch.
    """
    full, rest = list[Tensor](), list[Tensor]()
    for kind in kinds.unique():
        places = (kinds[order] == kind).nonzero().flatten()
        *batches, last = places.split(size)
        full += batches if len(last) < size else [*batches, last]
        rest += [last] if len(last) < size else []
    full.sort(key=lambda places: int(places[0]))
    return order[torch.cat([*full, torch.cat(rest).sort().values if rest else order[:0]])]


class OrderedBatches:
    """Batches in order, every image exactly once over all ranks; for evaluation and calibration.

    The ranks' shares of a batch may differ by one image, but all ranks have equally many batches and none is empty: a
    rest of fewer images than ranks joins the last batch. Count correct answers and images, not means of batches.

    Args:
        num_images: how many images.
        batch_size: images per batch and process.
        rank: of this process.
        world_size: number of processes.

    Raises:
        ValueError: there are fewer images than processes.
    """

    def __init__(self, num_images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        require_enough(num_images, world_size)
        self.num_images = num_images
        self.global_batch = batch_size * world_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        full, rest = divmod(self.num_images, self.global_batch)
        return max(1, full + (rest >= self.world_size))

    def __iter__(self) -> Iterator[Tensor]:
        """Positions of each of this rank's batches, shape ``(B,)``."""
        for k in range(len(self)):
            begin = k * self.global_batch
            end = self.num_images if k == len(self) - 1 else begin + self.global_batch
            part = share(begin, end, self.rank, self.world_size)
            yield torch.arange(part.start, part.stop)


def share(begin: int, end: int, rank: int, world_size: int) -> slice:
    """The contiguous share of positions ``begin … end - 1`` that belongs to a rank."""
    size = end - begin
    return slice(begin + rank * size // world_size, begin + (rank + 1) * size // world_size)


def require_enough(num_images: int, world_size: int) -> None:
    """Refuse fewer images than processes."""
    if num_images < world_size:
        raise ValueError(
            f"{num_images} images cannot be shared among {world_size} processes: use fewer devices or more images"
        )
