"""The data module all picture data sets share: which pictures come when, and how they are normalised."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Generator, Tensor

from pruning_lit.data.augment import normalise
from pruning_lit.data.loader import EvaluationLoader, TrainingLoader
from pruning_lit.data.parts import Batch, Part, Parts, PlannedBatch, hold_out
from pruning_lit.data.sampler import EpochBatches, OrderedBatches
from pruning_lit.data.seeding import generator


class Pictures(LightningDataModule):
    """Batches of pictures as uint8, normalised on the device; a data set says how to ``read`` and augment them.

    No random state is kept: what is drawn for a picture depends on seed, phase and epoch, so a run that resumes sees
    the same pictures. The batches are shared among the ranks here, whatever ``Trainer(use_distributed_sampler=…)``
    says.

    After ``setup`` there are ``num_classes``, ``classes`` (in the order of the targets), ``shape`` (C, H, W),
    ``example`` (zeros, ``(1, C, H, W)``) and ``has_validation``.

    Args:
        batch_size: pictures per step and process; the last batch of an epoch may be smaller.
        mean: of each channel on the scale 0 … 1.
        std: standard deviation of each channel on the same scale.
        flip: mirror one training picture in two.
        val_fraction: share of the training pictures held out for choosing (the best epoch, a ratio), class by class.
            With 0, and no validation part of the data's own, nothing can be chosen: the test part only reports.
        split_seed: of the held-out part, apart from ``seed`` so that runs with different seeds compare.
        seed: of the order of the pictures and their augmentation.
        drop_last: leave a smaller last batch out of training; it is of other pictures in every epoch.

    Raises:
        ValueError: a setting is out of its range.
    """

    num_classes: int
    classes: list[str]
    shape: tuple[int, int, int]
    example: Tensor

    def __init__(
        self,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        flip: bool = False,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"dataset.batch_size is {batch_size}, but a batch has at least 1 picture")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"dataset.val_fraction is {val_fraction}, but it is a share from 0 (none) to below 1")
        if any(value <= 0 for value in std):
            raise ValueError(f"dataset.std is {list(std)}, but a standard deviation is above 0")
        self.batch_size = batch_size
        self.mean = torch.tensor(list(mean), dtype=torch.float32)
        self.std = torch.tensor(list(std), dtype=torch.float32)
        self.flip = flip
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.seed = seed
        self.drop_last = drop_last
        self.stream = 0  # one per phase, set by the experiment: phases see different orders
        self._parts: Parts | None = None

    @abstractmethod
    def read(self) -> Parts:
        """All parts of the data set."""

    @abstractmethod
    def draw(self, num_pictures: int, random: Generator) -> Tensor:
        """What happens to each of the pictures in an epoch, int64, one row per picture."""

    def augment(self, pictures: Tensor, draws: Tensor) -> Tensor:
        """Carry out, on the device, the draws that came with a batch; none need be left to do.

        Args:
            pictures: uint8, shape ``(B, C, H, W)``.
            draws: one row per picture, or no rows.
        """
        return pictures

    def setup(self, stage: str | None = None) -> None:
        """Read the pictures, once, and hold out the validation part.

        Raises:
            ValueError: settings and data do not fit together.
            FileNotFoundError: the data are not there.
        """
        if self._parts is not None:
            return
        parts = self.read()
        if len(parts.classes) < 2:
            raise ValueError(f"all pictures are of the class {parts.classes[0]!r}, but at least 2 are told apart")
        num_channels = parts.train.shape[0]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != num_channels:
                raise ValueError(
                    f"dataset.{name} has {len(values)} numbers, but the pictures have {num_channels} channels"
                )
        if self.val_fraction > 0:
            if parts.validation is not None:
                raise ValueError(
                    f"dataset.val_fraction is {self.val_fraction}, but the data have a validation part: set it to 0"
                )
            rest, held_out = hold_out(parts.train, self.val_fraction, self.split_seed)
            parts = parts._replace(train=rest, validation=held_out)
        self.classes = parts.classes
        self.num_classes = len(parts.classes)
        self.shape = parts.train.shape
        self.example = torch.zeros(1, *self.shape)
        self._parts = parts

    @property
    def parts(self) -> Parts:
        """The parts in use, after ``setup``: the training part is without the pictures held out."""
        assert self._parts is not None, "call setup() first"
        return self._parts

    @property
    def num_training(self) -> int:
        """Pictures that are trained on."""
        return len(self.parts.train)

    @property
    def has_validation(self) -> bool:
        """Whether there are pictures to choose by that are neither trained on nor reported on."""
        return self.parts.validation is not None

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled training batches of this rank, with draws; resumable within an epoch."""
        trainer = self.trainer
        sampler = EpochBatches(
            num_pictures=len(self.parts.train),
            batch_size=self.batch_size,
            draw=self.draw,
            seed=self.seed,
            stream=self.stream,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            repeat=getattr(trainer, "overfit_batches", 0) > 0,  # else each epoch would have other batches
            drop_last=self.drop_last,
        )
        return TrainingLoader(self.parts.train, sampler, self._num_finished)

    def val_dataloader(self) -> EvaluationLoader | list[Any]:
        """Validation batches of this rank; an empty list without a validation part: nothing is chosen by test data."""
        return self._evaluation(self.parts.validation) if self.parts.validation is not None else []

    def test_dataloader(self) -> EvaluationLoader:
        """Test batches of this rank."""
        return self._evaluation(self.parts.test)

    def test_batches(self) -> EvaluationLoader:
        """All test batches for one process, however many there are."""
        return EvaluationLoader(self.parts.test, OrderedBatches(len(self.parts.test), self.batch_size))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Augment and normalise a batch on the device it is on.

        Args:
            batch: uint8 pictures ``(B, C, H, W)``, targets ``(B,)`` and draws ``(B, D)``, or ``(0, D)`` for none.
            dataloader_idx: Lightning's; not used.

        Returns:
            Float pictures ``(B, C, H, W)`` in the precision of the trainer's inputs, and the targets.
        """
        pictures, targets, draws = batch
        floats = self._floats(pictures, draws)
        return (self.trainer.precision_plugin.convert_input(floats) if self.trainer else floats), targets

    def calibration(
        self,
        num_images: int,
        seed: int,
        augment: bool = False,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A seeded choice of training pictures with their targets, for scores that go by activations or gradients.

        Which pictures, and how each is augmented, does not depend on ranks or batches; over all ranks each comes once.

        Args:
            num_images: how many pictures over all ranks.
            seed: of the choice and the augmentation.
            augment: crop and mirror as in training.
            rank: whose share is given.
            world_size: number of processes that share.
            batch_size: pictures per batch and process; the training's by default.

        Returns:
            Batches on the CPU: normalised float pictures ``(B, C, H, W)`` and targets ``(B,)``.

        Raises:
            ValueError: more pictures are asked for than there are, or fewer than one.
        """
        train = self.parts.train
        if not 1 <= num_images <= len(train):
            raise ValueError(
                f"{num_images} calibration pictures asked for, but it takes 1 to {len(train)} (all for training)"
            )
        random = generator("calibration", seed)
        chosen = torch.randperm(len(train), generator=random)[:num_images]
        draws = self.draw(num_images, random)
        batches = OrderedBatches(num_images, batch_size or self.batch_size, rank, world_size)

        def plan() -> Iterator[PlannedBatch]:
            for positions in batches:
                yield chosen[positions], draws[positions] if augment else draws[:0]

        return ((self._floats(pictures, left), targets) for pictures, targets, left in train.batches(plan()))

    def _floats(self, pictures: Tensor, draws: Tensor) -> Tensor:
        if self.mean.device != pictures.device:  # once per device, not per batch
            self.mean, self.std = self.mean.to(pictures.device), self.std.to(pictures.device)
        return normalise(self.augment(pictures, draws), self.mean, self.std)

    def _evaluation(self, part: Part) -> EvaluationLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return EvaluationLoader(part, OrderedBatches(len(part), self.batch_size, rank, world_size))

    def _num_finished(self) -> int:
        assert self.trainer is not None, "only a trainer saves a checkpoint"
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
