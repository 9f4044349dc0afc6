"""The data module that all data sets share: which examples come when, and where a run goes on."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningDataModule
from torch import Generator, Tensor

from pruning_lit.channels.inputs import first_tensor
from pruning_lit.data.loader import EvaluationLoader, TrainingLoader
from pruning_lit.data.parts import Part, Parts, PlannedBatch, hold_out
from pruning_lit.data.sampler import EpochBatches, OrderedBatches, draw_nothing
from pruning_lit.data.seeding import generator


class DataModule(LightningDataModule):
    """Batches ``(inputs, targets)`` in an order of its own; a data set says how to ``read`` its parts.

    No random state is kept: what is drawn for an example depends on seed, phase and epoch, so a run that resumes sees
    the same examples. The batches are shared among the ranks here, whatever ``Trainer(use_distributed_sampler=…)``
    says.

    After ``setup`` there are ``example`` (inputs of a batch of one), ``shape`` (of its first tensor, without the
    batch), ``classes`` (in the order of the targets), ``num_classes`` (None where there are no classes) and
    ``has_validation``.

    Attributes:
        always_shape, always_classes: shape and number of classes, where they are known before anything is read.

    Args:
        batch_size: examples per step and process; the last batch of an epoch may be smaller.
        val_fraction: share of the training examples held out for choosing (the best epoch, a ratio), class by class.
            With 0, and no validation part of the data's own, nothing can be chosen: the test part only reports.
        split_seed: of the held-out part, apart from ``seed`` so that runs with different seeds compare.
        seed: of the order of the examples and their augmentation.
        drop_last: leave a smaller last batch out of training; it is of other examples in every epoch.

    Raises:
        ValueError: a setting is out of its range.
    """

    always_shape: ClassVar[tuple[int, ...] | None] = None
    always_classes: ClassVar[int | None] = None
    example: Any
    shape: tuple[int, ...]
    classes: list[str] | None
    num_classes: int | None

    def __init__(
        self,
        batch_size: int,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"dataset.batch_size is {batch_size}, but a batch has at least 1 image")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"dataset.val_fraction is {val_fraction}, but it is a share from 0 (none) to below 1")
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.seed = seed
        self.drop_last = drop_last
        self.stream = 0  # one per phase, set by the experiment: phases see different orders
        self._parts: Parts | None = None

    @property
    def title(self) -> str:
        """Name of the data set, for people."""
        return type(self).__name__

    @abstractmethod
    def read(self) -> Parts:
        """All parts of the data set."""

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """Draw the augmentation of each example of an epoch, int64, one row per example; by default nothing."""
        return draw_nothing(num_examples, random)

    @property
    def shares_epochs(self) -> bool:
        """True where processes share the training examples of an epoch; else each of them has as many to itself."""
        return True

    @property
    def augments(self) -> bool:
        """True where training examples may be augmented anew in every epoch: other draws for them differ."""
        one, other = (self.draw(16, generator("augments", k)) for k in range(2))
        return not torch.equal(one, other)

    def kinds(self) -> Tensor | None:
        """Kind of each training example, int64, where those of one kind are to share a step; by default None."""
        return None

    @abstractmethod
    def make_example(self, part: Part) -> Any:
        """Inputs of a batch of one."""

    @abstractmethod
    def ready(self, batch: Any) -> tuple[Any, Any]:
        """Inputs and targets of a batch as a part gives it, augmented and normalised on the device it is on."""

    def prepared(self, batch: Any, training: bool = False) -> tuple[Any, Any]:
        """Inputs and targets of a batch as a part gives it, outside of a trainer's loops.

        Args:
            batch: on the device it is to be on.
            training: as in training; else as in evaluation.
        """
        return self.ready(batch)

    def facts(self) -> dict[str, Any]:
        """Plain data on the inputs that a network file has in its header."""
        return {"shape": list(self.shape), "classes": self.classes}

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once, and hold out the validation part.

        Raises:
            ValueError: settings and data do not fit together.
            FileNotFoundError: the data are not there.
        """
        if self._parts is not None:
            return
        parts = self.read()
        self.require_readable(parts)
        if self.val_fraction > 0:
            if parts.validation is not None:
                raise ValueError(
                    f"dataset.val_fraction is {self.val_fraction}, but the data have a validation part: set it to 0"
                )
            rest, held_out = hold_out(parts.train, self.val_fraction, self.split_seed)
            parts = parts._replace(train=rest, validation=held_out)
        self.classes = parts.classes
        self.num_classes = None if parts.classes is None else len(parts.classes)
        self.example = self.make_example(parts.train)
        self.shape = tuple(first_tensor(self.example).shape[1:])
        self._parts = parts

    def require_readable(self, parts: Parts) -> None:
        """ValueError where settings and data do not fit together, or there is nothing to tell apart."""
        if parts.classes is not None and len(parts.classes) < 2:
            raise ValueError(f"all images are of the class {parts.classes[0]!r}, but at least 2 are told apart")

    @property
    def parts(self) -> Parts:
        """The parts in use, after ``setup``: the training part is without the images held out."""
        assert self._parts is not None, "call setup() first"
        return self._parts

    @property
    def num_training(self) -> int:
        """Images that are trained on."""
        return len(self.parts.train)

    @property
    def has_validation(self) -> bool:
        """True if there are validation images to choose by, neither trained on nor reported on."""
        return self.parts.validation is not None

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled training batches of this rank, with draws; resumable within an epoch."""
        trainer = self.trainer
        sampler = EpochBatches(
            num_images=len(self.parts.train),
            batch_size=self.batch_size,
            draw=self.draw,
            seed=self.seed,
            stream=self.stream,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            repeat=getattr(trainer, "overfit_batches", 0) > 0,  # else each epoch would have other batches
            drop_last=self.drop_last,
            kinds=self.kinds(),
        )
        return TrainingLoader(self.parts.train, sampler, self._num_finished)

    def training_in_order(self, rank: int, world_size: int) -> Iterator[tuple[Tensor, Any]]:
        """All training examples once over all ranks, without augmentation.

        Returns:
            Of each batch of this rank the positions in the training part, and the batch as ``ready`` takes it.
        """
        batches = OrderedBatches(self.num_training, self.batch_size, rank, world_size)
        return zip(batches, EvaluationLoader(self.parts.train, batches), strict=True)

    def val_dataloader(self) -> EvaluationLoader | list[Any]:
        """Validation batches of this rank; an empty list without a validation part: nothing is chosen by test data."""
        return self._evaluation(self.parts.validation) if self.parts.validation is not None else []

    def test_dataloader(self) -> EvaluationLoader:
        """Test batches of this rank."""
        return self._evaluation(self.parts.test)

    def test_batches(self) -> Iterable[Any]:
        """All test batches for one process, however many there are."""
        return EvaluationLoader(self.parts.test, OrderedBatches(len(self.parts.test), self.batch_size))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Any, Any]:
        """Make a batch ready on its device, the inputs in the precision of the trainer's.

        Args:
            batch: as a part gives it.
            dataloader_idx: Lightning's; not used.
        """
        inputs, targets = self.ready(batch)
        return (self.trainer.precision_plugin.convert_input(inputs) if self.trainer else inputs), targets

    def calibration(
        self,
        num_images: int,
        seed: int,
        augment: bool = False,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        """A seeded choice of training images with their targets, for scores that go by activations or gradients.

        Which images, and how each is augmented, does not depend on ranks or batches; over all ranks each comes once.

        Args:
            num_images: how many images over all ranks.
            seed: of the choice and the augmentation.
            augment: crop and mirror as in training.
            rank: whose share is given.
            world_size: number of processes that share.
            batch_size: images per batch and process; the training's by default.

        Returns:
            Batches on the CPU, ready for the network.

        Raises:
            ValueError: more images are asked for than there are, or fewer than one.
        """
        train = self.parts.train
        if not 1 <= num_images <= len(train):
            raise ValueError(
                f"{num_images} calibration images asked for, but it takes 1 to {len(train)} (all for training)"
            )
        random = generator("calibration", seed)
        chosen = torch.randperm(len(train), generator=random)[:num_images]
        draws = self.draw(num_images, random)
        batches = OrderedBatches(num_images, batch_size or self.batch_size, rank, world_size)

        def plan() -> Iterator[PlannedBatch]:
            for positions in batches:
                yield chosen[positions], draws[positions] if augment else draws[:0]

        return map(partial(self.prepared, training=augment), train.batches(plan()))

    def held_out(self, num_examples: int, seed: int, batch_size: int | None = None) -> Iterator[tuple[Any, Any]]:
        """A seeded choice of examples to decide by, as evaluation sees them: never of the test part.

        They are validation examples where there are some, else training examples.

        Args:
            num_examples: how many; all where there are fewer.
            seed: of the choice.
            batch_size: examples per batch; the training's by default.

        Returns:
            Batches on the CPU, ready for the network.
        """
        part = self.parts.train if self.parts.validation is None else self.parts.validation
        chosen = torch.randperm(len(part), generator=generator("held out", seed))[:num_examples].sort().values
        batches = OrderedBatches(len(chosen), batch_size or self.batch_size)
        return map(self.prepared, EvaluationLoader(replace(part, members=part.members[chosen]), batches))

    def sample_targets(self) -> Any:
        """Targets of a few training examples, for a look at their shape, dtype and range."""
        num_examples = min(16, self.num_training)
        ((_, targets),) = self.calibration(num_examples, seed=0, batch_size=num_examples)
        return targets

    def _evaluation(self, part: Part) -> EvaluationLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return EvaluationLoader(part, OrderedBatches(len(part), self.batch_size, rank, world_size))

    def _num_finished(self) -> int:
        assert self.trainer is not None, "only a trainer saves a checkpoint"
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
