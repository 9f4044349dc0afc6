"""Loaders that say which images come when; a part of the data set fetches them.

They are no ``torch.utils.data.DataLoader``: that one draws from the global random state at the start of each epoch (so
a resumed run's dropout would differ), and has no position that a checkpoint could hold.
"""

from collections.abc import Callable, Iterator

import torch

from pruning_lit.data.parts import Batch, Part
from pruning_lit.data.sampler import EpochBatches, OrderedBatches


class EvaluationLoader:
    """Batches of a part in order, without draws.

    Args:
        part: the images; only those at ``part.members`` are used.
        batches: which of them make a batch.
    """

    def __init__(self, part: Part, batches: OrderedBatches) -> None:
        self.part = part
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        no_draws = torch.empty(0, 3, dtype=torch.int64)
        yield from self.part.batches((positions, no_draws) for positions in self.batches)


class TrainingLoader:
    """Shuffled batches of a part with their draws, which a checkpoint can resume in the middle of an epoch.

    Lightning saves ``state_dict`` in every checkpoint and gives it back before a resumed fit, but not when the epoch
    was finished; it may call ``iter`` before it sets the epoch, and more than once. So the place to start from is
    decided when the first batch is asked for: behind the finished batches in the checkpoint's epoch, at 0 in others.

    Args:
        part: the images; only those at ``part.members`` are used.
        sampler: which of them make a batch; Lightning sets the epoch by this attribute's name.
        num_finished: says how many batches of the epoch under way are trained. A batch that was handed out but not
            finished (an exception in the training step) is handed out again.
    """

    def __init__(self, part: Part, sampler: EpochBatches, num_finished: Callable[[], int]) -> None:
        self.part = part
        self.sampler = sampler
        self.num_finished = num_finished
        self._begun: int | None = None  # the epoch under way
        self._resumed = (0, 0)  # an epoch, and how many batches of it were finished before this loader

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self._begun = self.sampler.epoch
        yield from self.part.batches(self.sampler.batches(self._first()))

    def state_dict(self) -> dict[str, int]:
        """The place within the epoch, and all that decides which images come next."""
        # before the first batch, Lightning still counts the batches of the epoch before
        finished = self.num_finished() if self._begun == self.sampler.epoch else self._first()
        return {"epoch": self.sampler.epoch, "finished": finished, **self._order()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start the epoch of the checkpoint where it was left.

        Raises:
            ValueError: the rest of the epoch would not be the images not seen yet.
        """
        saved = {"drop_last": False} | state_dict  # older checkpoints know no other
        for name, here in self._order().items():
            if saved[name] != here:
                raise ValueError(
                    f"the checkpoint was saved within an epoch with {name}={saved[name]}, this run has {here}: resume "
                    "with that run's data, dataset.seed, dataset.drop_last, and global batch (dataset.batch_size times "
                    "processes)"
                )
        self._resumed = state_dict["epoch"], state_dict["finished"]
        self.sampler.set_epoch(state_dict["epoch"])

    def _first(self) -> int:
        epoch, finished = self._resumed
        return finished if epoch == self.sampler.epoch else 0

    def _order(self) -> dict[str, int]:
        names = ("global_batch", "seed", "stream", "drop_last")
        first = {"num_pictures": self.sampler.num_images}  # the key in checkpoints of earlier versions
        return first | {name: getattr(self.sampler, name) for name in names}
